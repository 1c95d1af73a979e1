/**
 * A text that grows, as nodes: only its end is parsed and made anew, all blocks before stay the
 * nodes that they are.
 *
 * Blocks of Markdown are decided line by line: one that another one follows, on a line that has
 * ended, will not change any more. So the text is cut there: what is before is finished, what
 * follows is the tail, parsed from the cut with each piece of text that comes. Long lists, tables
 * and blocks of code are cut within: their items, rows and lines are appended to the element that is
 * there. What a piece of text costs so depends on the tail alone, not on all that came before.
 *
 * Links may be defined below where they are used: blocks in which one might be are made once more
 * when the text is whole.
 */

import { build, type Work } from "./build.ts";
import { openCodeBlock, type CodeBlock } from "./code.ts";
import { parseReply, references, type References, type Token } from "./parser.ts";
import { tidy } from "./tidy.ts";

/** What stands open before the tail: the tail may go on with it. */
interface Open {
  kind: "bullet_list" | "ordered_list" | "table";
  /** A list's sign; of a table nothing. */
  markup: string;
  /** What stands on the page: for a table the box. */
  element: Element;
  /** What the tail has to be parsed after: the head of a table, else nothing. */
  prefix: string;
  /** A finished part of the list was loose. */
  loose: boolean;
}

/** A finished part whose links may be defined later. */
interface Unresolved {
  source: string;
  prefix: string;
  /** Its first nodes went into a list or a table that was there. */
  continued: boolean;
  nodes: Element[];
}

interface Fence {
  block: CodeBlock;
  closing: RegExp;
}

/** Blocks that cannot begin with the title of a link. */
const APART = /^(?:fence|bullet_list_open|ordered_list_open|blockquote_open)$/;

/** Where a text can be cut: before a token's line; `inside`: within the last block. */
interface Cut {
  line: number;
  token: number;
  inside: boolean;
}

/** A growing text in a container. */
export class MarkdownStream {
  /** What all so far has cost. */
  readonly work: Work = { nodes: 0, characters: 0 };
  private readonly container: Element;
  private tail = "";
  private tailNodes: Element[] = [];
  private known: References = references();
  private open: Open | undefined;
  private fence: Fence | undefined;
  private unresolved: Unresolved[] = [];
  /** Something was finished while half a definition stood behind it. */
  private mayResolve = false;
  private carriageReturn = false;

  constructor(container: Element) {
    this.container = container;
  }

  /** Takes more text; `render` or `finish` shows it. */
  append(text: string): void {
    let more = this.carriageReturn ? `\r${text}` : text;
    this.carriageReturn = more.endsWith("\r");
    if (this.carriageReturn) more = more.slice(0, -1);
    this.tail += more.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");
  }

  /** Shows the text so far, to which more will come. */
  render(): void {
    this.advance(false);
  }

  /** Shows the text, which is whole. */
  finish(): void {
    if (this.carriageReturn) this.tail += "\n";
    this.carriageReturn = false;
    this.advance(true);
    if (this.mayResolve || Object.keys(this.known.references).length > 0) this.resolve();
    this.unresolved = [];
  }

  private advance(whole: boolean): void {
    for (;;) {
      if (this.fence !== undefined && !this.feedFence(this.fence, whole)) return;
      const before = this.fence;
      this.update(whole);
      if (this.fence === before || this.fence === undefined) return;
    }
  }

  /** Gives a block of code its lines; returns false when it is still open. */
  private feedFence(fence: Fence, whole: boolean): boolean {
    let at = 0;
    for (;;) {
      const end = this.tail.indexOf("\n", at);
      const last = end < 0;
      const line = this.tail.slice(at, last ? undefined : end);
      if ((!last || whole) && fence.closing.test(line)) {
        this.closeFence(fence, at);
        this.tail = last ? "" : this.tail.slice(end + 1);
        return true;
      }
      if (last) break;
      at = end + 1;
    }
    if (whole) {
      this.closeFence(fence, this.tail.length);
      this.tail = "";
      return true;
    }
    this.appendCode(fence, at);
    this.tail = this.tail.slice(at);
    // The beginning of what may close it is not shown.
    fence.block.showRest(/^ {0,3}[`~]*[ \t]*$/.test(this.tail) ? "" : this.tail);
    return false;
  }

  private appendCode(fence: Fence, end: number): void {
    if (end === 0) return;
    this.work.characters += end;
    this.work.nodes += 1;
    fence.block.append(this.tail.slice(0, end));
  }

  private closeFence(fence: Fence, end: number): void {
    this.appendCode(fence, end);
    fence.block.finish();
    this.fence = undefined;
  }

  /** Parses the tail, and makes what is finished and what is the new tail. */
  private update(whole: boolean): void {
    const prefix = this.open?.prefix ?? "";
    const inTable = this.open?.kind === "table";
    const shown = whole ? this.tail : tidy(this.tail, inTable);
    const source = prefix + shown;
    const env = references(this.known);
    const tokens = this.parse(source, whole ? this.known : env);
    this.dropTail();
    const defines = !whole && Object.keys(env.references).length > 0;
    const cut = whole ? cutBeforeFence(tokens, source) : cutOf(tokens, source, defines);
    if (cut === undefined) {
      this.place(tokens, this.tail, whole);
      if (whole) this.tail = "";
      return;
    }
    const end = offsetOf(source, cut.line) - prefix.length;
    const finished = this.tail.slice(0, end);
    this.tail = this.tail.slice(end);
    if (defines) this.parse(prefix + finished, this.known);
    this.mayResolve ||= defines;
    const [before, after] = split(tokens, cut);
    this.place(before, finished, true);
    if (!cut.inside) this.open = undefined;
    else if (this.open !== undefined && isLoose(tokens)) {
      this.open.loose = true;
      this.open.element.classList.add("loose");
    }
    if (this.openFence(after)) return;
    if (cut.inside) this.openTable(source, tokens);
    this.place(after, this.tail, whole);
    if (whole) this.tail = "";
  }

  private parse(source: string, env: References): Token[] {
    this.work.characters += source.length;
    return parseReply(source, env);
  }

  private dropTail(): void {
    for (const node of this.tailNodes) node.remove();
    this.tailNodes = [];
    if (this.open !== undefined) this.open.element.classList.toggle("loose", this.open.loose);
  }

  /** Puts the nodes of tokens where they belong: first those that go on with what is open. */
  private place(tokens: Token[], source: string, finished: boolean): void {
    const first = tokens[0];
    if (first === undefined) return;
    const nodes = build(tokens, this.work, finished);
    const prefix = this.open?.prefix ?? "";
    const placed: Element[] = [];
    let rest = nodes;
    const continued = this.open !== undefined && continues(first, this.open);
    if (this.open !== undefined && continued) {
      const [head, ...others] = nodes;
      rest = others;
      if (head !== undefined) placed.push(...this.extend(this.open, head, finished));
    }
    this.container.append(...rest);
    placed.push(...rest);
    if (!finished) {
      this.tailNodes = placed;
      return;
    }
    if (source.includes("[")) {
      this.unresolved.push({ source, prefix, continued, nodes: placed });
    }
    this.reopen(tokens, rest.at(-1));
  }

  /** Appends items or rows to what is open; returns them. */
  private extend(open: Open, more: Element, finished: boolean): Element[] {
    if (open.kind === "table") {
      const rows = insideOf(more);
      if (rows.length === 0) return [];
      const table = open.element.querySelector("table");
      let body = table?.querySelector("tbody");
      if (body === null || body === undefined) {
        body = document.createElement("tbody");
        table?.append(body);
      }
      body.append(...rows);
      return rows;
    }
    if (more.classList.contains("loose")) {
      open.element.classList.add("loose");
      if (finished) open.loose = true;
    }
    const items = insideOf(more);
    open.element.append(...items);
    return items;
  }

  /** Notes what stands open behind finished tokens: their last block, when it can go on. */
  private reopen(tokens: Token[], element: Element | undefined): void {
    const last = tokens.at(-1);
    const kind = last?.type.replace(/_close$/, "");
    if (element === undefined) {
      // Everything went into what is open already.
      return;
    }
    this.open = undefined;
    if (last === undefined) return;
    if (kind === "bullet_list" || kind === "ordered_list") {
      const loose = element.classList.contains("loose");
      this.open = { kind, markup: last.markup, element, prefix: "", loose };
    } else if (kind === "table") {
      this.open = { kind, markup: "", element, prefix: "", loose: false };
    }
  }

  /** Keeps the head of a table that was cut within, for the rows to come. */
  private openTable(source: string, tokens: Token[]): void {
    if (this.open?.kind !== "table" || this.open.prefix !== "") return;
    const start = tokens.findLast((token) => token.type === "table_open")?.map?.[0] ?? 0;
    this.open.prefix = source.slice(offsetOf(source, start), offsetOf(source, start + 2));
  }

  /** Begins a block of code whose end has not come; returns whether the tail is one. */
  private openFence(tokens: Token[]): boolean {
    const token = tokens[0];
    if (token?.type !== "fence") return false;
    const opening = /^(`{3,}|~{3,})[^\n]*\n/.exec(this.tail);
    if (opening === null) return false;
    const [line, marks = ""] = opening;
    const closing = closingOf(marks);
    this.fence = { block: openCodeBlock(token.info), closing };
    this.work.nodes += 1;
    this.container.append(this.fence.block.element);
    this.tail = this.tail.slice(line.length);
    return true;
  }

  /** Makes those blocks again in which a link may be that is defined further below. */
  private resolve(): void {
    for (const { source, prefix, continued, nodes } of this.unresolved) {
      const made = build(this.parse(prefix + source, this.known), this.work, true);
      const parts = continued ? [...insideOf(made[0]), ...made.slice(1)] : made;
      if (parts.length !== nodes.length) continue;
      nodes.forEach((node, index) => {
        const part = parts[index];
        if (part === undefined) return;
        if (/^(?:UL|OL)$/.test(node.tagName)) replaceFirst(node, part);
        else if (node.classList.contains("table")) {
          replaceFirst(node.querySelector("thead"), part.querySelector("thead"));
          replaceFirst(node.querySelector("tbody"), part.querySelector("tbody"));
        } else node.replaceWith(part);
      });
    }
  }
}

/** Returns a list's items, or the rows of a table's body. */
function insideOf(block: Element | undefined): Element[] {
  if (block === undefined) return [];
  return block.classList.contains("table")
    ? [...block.querySelectorAll("tbody > tr")]
    : [...block.children];
}

/** Replaces the items or rows at the beginning of what grew since. */
function replaceFirst(old: Element | null, made: Element | null): void {
  [...(made?.children ?? [])].forEach((child, index) => {
    old?.children[index]?.replaceWith(child);
  });
}

/** Tells whether the items of a text's last list are apart. */
function isLoose(tokens: Token[]): boolean {
  const list = tokens.findLastIndex((token) => token.level === 0 && token.nesting === 1);
  return tokens.some(
    (token, at) =>
      at > list && token.type === "paragraph_open" && token.level === 2 && !token.hidden,
  );
}

function continues(token: Token, open: Open): boolean {
  return token.type === `${open.kind}_open` && token.markup === open.markup;
}

/** Returns where a line of a text begins. */
function offsetOf(text: string, line: number): number {
  let offset = 0;
  for (let count = 0; count < line; count += 1) {
    const end = text.indexOf("\n", offset);
    if (end < 0) return text.length;
    offset = end + 1;
  }
  return offset;
}

/** Finds where what is before will not change any more. */
function cutOf(tokens: Token[], source: string, defines: boolean): Cut | undefined {
  // Lines that have ended.
  const lines = source.split("\n").length - 1;
  const index = tokens.findLastIndex(
    ({ level, nesting, map }) => level === 0 && nesting >= 0 && (map?.[0] ?? lines) < lines,
  );
  const last = tokens[index];
  const start = last?.map?.[0];
  if (last === undefined || start === undefined) return undefined;
  const inner = insideCut(tokens, index, lines);
  if (inner !== undefined) return inner;
  const isFence = last.type === "fence" && isOpenFence(source, last);
  if (index === 0 && !isFence) return undefined;
  // A link's definition may go on with a title on the line below it.
  const apart = APART.test(last.type) || start === 0 || isBlank(source, start - 1);
  if (defines && !apart) return undefined;
  return { line: start, token: index, inside: false };
}

/** Finds a block of code without an end, in a text that is whole. */
function cutBeforeFence(tokens: Token[], source: string): Cut | undefined {
  const index = tokens.length - 1;
  const last = tokens[index];
  if (last?.type !== "fence" || last.level !== 0 || !isOpenFence(source, last)) return undefined;
  return { line: last.map?.[0] ?? 0, token: index, inside: false };
}

/** Finds a cut within the last block: before a list's last item, behind a table's last row. */
function insideCut(tokens: Token[], index: number, lines: number): Cut | undefined {
  const block = tokens[index];
  if (block?.type === "bullet_list_open" || block?.type === "ordered_list_open") {
    const item = tokens.findLastIndex(
      (token) => token.type === "list_item_open" && token.level === 1,
    );
    const line = tokens[item]?.map?.[0];
    if (item <= index + 1 || line === undefined || line >= lines) return undefined;
    return { line, token: item, inside: true };
  }
  if (block?.type !== "table_open") return undefined;
  const [start = 0, end = 0] = block.map ?? [];
  const rows = Math.min(lines, end);
  if (rows <= start + 2) return undefined; // no more than the head
  const row = tokens.findIndex(
    (token, at) => at > index && token.type === "tr_open" && (token.map?.[0] ?? 0) >= rows,
  );
  const close = tokens.findIndex((token, at) => at > index && token.type === "table_close");
  return { line: rows, token: row < 0 ? close + 1 : row, inside: true };
}

function isBlank(source: string, line: number): boolean {
  return source.slice(offsetOf(source, line), offsetOf(source, line + 1)).trim() === "";
}

/** Tells whether a block of code, at the text's end and not indented, has no end yet. */
function isOpenFence(source: string, token: Token): boolean {
  const [start = 0, end = 0] = token.map ?? [];
  const offset = offsetOf(source, start);
  if (!/^[`~]/.test(source.slice(offset, offset + 1))) return false;
  if (end - start < 2) return true;
  const last = source.slice(offsetOf(source, end - 1), offsetOf(source, end)).replace(/\n$/, "");
  return !closingOf(token.markup).test(last);
}

/** Returns what the line looks like that closes a block of code. */
function closingOf(marks: string): RegExp {
  return new RegExp(`^ {0,3}${marks.charAt(0)}{${marks.length},}[ \\t]*$`);
}

/** Splits tokens at a cut; a list or a table that is cut within is in both parts. */
function split(tokens: Token[], cut: Cut): [Token[], Token[]] {
  const before = tokens.slice(0, cut.token);
  const after = tokens.slice(cut.token);
  if (!cut.inside) return [before, after];
  const opened: Token[] = [];
  for (const token of before) {
    if (token.nesting === 1) opened.push(token);
    else if (token.nesting === -1) opened.pop();
  }
  return [
    [...before, ...opened.toReversed().map(closerOf)],
    [...opened, ...after],
  ];
}

/** Returns the token that closes what one opens. */
function closerOf(token: Token): Token {
  const closer = Object.create(token) as Token;
  closer.type = token.type.replace(/_open$/, "_close");
  closer.nesting = -1;
  return closer;
}
