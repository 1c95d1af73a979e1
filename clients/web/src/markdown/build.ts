/**
 * DOM nodes from the parsers' tokens.
 *
 * Nodes are made one by one, never from a string of HTML: what is not made here cannot appear, and
 * neither can an attribute that is not set here.
 */

import { texts } from "../texts/en.ts";
import { codeBlock } from "./code.ts";
import { formula } from "./formula.ts";
import { BIDI_CONTROLS, visibleControls } from "./controls.ts";
import { isOwnFile, safeLink, saysHost } from "./links.ts";
import type { Token } from "./parser.ts";

/** The elements of tokens that open and close. Headings begin below those of the page. */
const ELEMENTS: Record<string, keyof HTMLElementTagNameMap> = {
  paragraph: "p",
  blockquote: "blockquote",
  bullet_list: "ul",
  ordered_list: "ol",
  list_item: "li",
  thead: "thead",
  tbody: "tbody",
  tr: "tr",
  th: "th",
  td: "td",
  em: "em",
  strong: "strong",
  s: "del",
};
const HEADINGS: Record<string, keyof HTMLElementTagNameMap> = {
  h1: "h3",
  h2: "h4",
  h3: "h5",
  h4: "h6",
  h5: "h6",
  h6: "h6",
};
/** What holds text of its own, whose direction is that of its first strong letter. */
const DIRECTED = new Set(["paragraph", "heading", "list_item", "th", "td", "blockquote"]);
const ALIGNED: Record<string, string> = {
  "text-align:left": "start",
  "text-align:center": "middle",
  "text-align:right": "end",
};
const TASK = /^\[([ xX])\]\s+/;

/** How much work was done for a text. */
export interface Work {
  /** How many nodes were made. */
  nodes: number;
  /** How many characters were parsed. */
  characters: number;
}

/** Returns the nodes of a text, one for each block of it; `whole`: none of them will change. */
export function build(tokens: Token[], work: Work, whole: boolean): Element[] {
  const root = document.createElement("div");
  new Builder(root, work, whole).all(tokens);
  return [...root.children];
}

class Builder {
  private readonly stack: Element[] = [];
  private place: Element;
  private readonly work: Work;
  private readonly whole: boolean;

  constructor(place: Element, work: Work, whole: boolean) {
    this.place = place;
    this.work = work;
    this.whole = whole;
  }

  all(tokens: Token[]): void {
    for (let index = 0; index < tokens.length; index += 1) {
      const token = tokens[index];
      if (token === undefined) continue;
      if (token.type === "link_open") index = this.link(tokens, index);
      else if (token.nesting === 1) this.open(token);
      else if (token.nesting === -1) this.close();
      else this.leaf(token);
    }
  }

  private make<Name extends keyof HTMLElementTagNameMap>(name: Name): HTMLElementTagNameMap[Name] {
    this.work.nodes += 1;
    return document.createElement(name);
  }

  private text(text: string): void {
    if (text === "") return;
    this.work.nodes += 1;
    this.place.append(text);
  }

  private open(token: Token): void {
    const kind = token.type.replace(/_open$/, "");
    if (kind === "table") {
      this.enter(this.table());
      return;
    }
    const name = kind === "heading" ? HEADINGS[token.tag] : ELEMENTS[kind];
    const element = this.make(name ?? "span");
    if (DIRECTED.has(kind)) element.setAttribute("dir", "auto");
    if (kind === "ordered_list") {
      const start = Number(attribute(token, "start") || 1);
      if (start !== 1) element.setAttribute("start", String(start));
    }
    const aligned = ALIGNED[attribute(token, "style")];
    if (aligned !== undefined) element.className = `align-${aligned}`;
    // Lists look loose when one of their items has paragraphs that are apart.
    if (kind === "paragraph" && !token.hidden) {
      const list = this.place.tagName === "LI" ? this.place.parentElement : null;
      list?.classList.add("loose");
    }
    this.place.append(element);
    this.enter(element);
  }

  /** Returns a table, in a box of its own that scrolls. */
  private table(): Element {
    const box = this.make("div");
    box.className = "table";
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", texts.markdown.table);
    const table = this.make("table");
    box.append(table);
    this.place.append(box);
    return table;
  }

  private enter(element: Element): void {
    this.stack.push(this.place);
    this.place = element;
  }

  private close(): void {
    this.place = this.stack.pop() ?? this.place;
  }

  private leaf(token: Token): void {
    switch (token.type) {
      case "inline":
        this.inline(token.children ?? []);
        return;
      case "softbreak":
        this.text("\n");
        return;
      case "hardbreak":
        this.place.append(this.make("br"));
        return;
      case "hr":
        this.place.append(this.make("hr"));
        return;
      case "code_inline":
        this.code(token.content);
        return;
      case "fence":
      case "code_block":
        this.work.nodes += 1;
        this.place.append(codeBlock(token.content, token.info, this.whole));
        return;
      case "math":
        this.work.nodes += 1;
        this.place.append(formula(token));
        return;
      case "image":
        this.image(token);
        return;
      default:
        // Text, and whatever a newer parser may come with.
        this.text(token.content);
    }
  }

  private inline(tokens: Token[]): void {
    const [first, ...rest] = tokens;
    const task = first?.type === "text" ? TASK.exec(first.content) : null;
    const item = this.place.parentElement;
    if (
      first === undefined ||
      task === null ||
      item?.tagName !== "LI" ||
      item.firstElementChild !== this.place
    ) {
      this.all(tokens);
      return;
    }
    const box = this.make("input");
    box.setAttribute("type", "checkbox");
    box.setAttribute("disabled", "");
    if (task[1] !== " ") box.setAttribute("checked", "");
    box.setAttribute("aria-label", task[1] === " " ? texts.markdown.toDo : texts.markdown.done);
    item.classList.add("task");
    this.place.append(box, " ");
    this.text(first.content.slice(task[0].length));
    this.all(rest);
  }

  private code(content: string): void {
    const code = this.make("code");
    // Its own direction: what is around it does not move its signs, nor it theirs.
    code.setAttribute("dir", "auto");
    code.textContent = visibleControls(content);
    this.place.append(code);
  }

  /** Makes the link that opens at `index`; returns where it closes. */
  private link(tokens: Token[], index: number): number {
    const token = tokens[index];
    const end = closingOf(tokens, index);
    const inside = tokens.slice(index + 1, end);
    const address = attribute(token, "href");
    const link = safeLink(address);
    const words = wordsOf(inside);
    if (link === undefined) {
      // Where it would have led is said, since it cannot be followed.
      this.all(inside);
      if (words !== address) this.text(` (${address.replace(BIDI_CONTROLS, "")})`);
      return end;
    }
    const anchor = this.anchor(link.href);
    const label = this.make("bdi");
    anchor.append(label);
    new Builder(label, this.work, this.whole).all(inside.map(withoutControls));
    if (label.textContent === "") label.textContent = link.host;
    else if (!saysHost(words, link.host)) anchor.append(this.host(link.host));
    return end;
  }

  private anchor(href: string): HTMLAnchorElement {
    const anchor = this.make("a");
    anchor.setAttribute("href", href);
    anchor.setAttribute("target", "_blank");
    anchor.setAttribute("rel", "noopener noreferrer nofollow");
    this.place.append(anchor);
    return anchor;
  }

  /** Returns the note that says where a link leads. */
  private host(host: string): HTMLElement {
    const note = this.make("span");
    note.className = "host";
    note.textContent = host;
    note.setAttribute("dir", "ltr");
    return note;
  }

  /** Shows a picture of this server, and a link to any other: those of strangers are not fetched,
   * since the address alone can carry away what was said. */
  private image(token: Token): void {
    const address = attribute(token, "src");
    const alt = token.content.replace(BIDI_CONTROLS, "");
    if (isOwnFile(address)) {
      const image = this.make("img");
      image.setAttribute("alt", alt);
      image.setAttribute("loading", "lazy");
      image.setAttribute("src", address);
      this.place.append(image);
      return;
    }
    const link = safeLink(address);
    if (link === undefined) {
      this.text(alt === "" ? texts.markdown.picture : alt);
      return;
    }
    const anchor = this.place.tagName === "BDI" ? this.place : this.anchor(link.href);
    const label = this.make("bdi");
    label.textContent = texts.markdown.pictureOf(alt);
    anchor.append(label, this.host(link.host));
  }
}

function attribute(token: Token | undefined, name: string): string {
  return String(token?.attrGet(name) ?? "");
}

function closingOf(tokens: Token[], index: number): number {
  for (let at = index + 1, depth = 1; at < tokens.length; at += 1) {
    const type = tokens[at]?.type;
    if (type === "link_open") depth += 1;
    if (type === "link_close") depth -= 1;
    if (depth === 0) return at;
  }
  return tokens.length;
}

function wordsOf(tokens: Token[]): string {
  return tokens.map((token) => token.content).join("");
}

function withoutControls(token: Token): Token {
  token.content = token.content.replace(BIDI_CONTROLS, "");
  return token;
}
