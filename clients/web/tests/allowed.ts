/** What the text of a message may become: every element, every attribute, every address. */

const GLOBAL = new Set(["class", "dir"]);
const ELEMENTS: Record<string, string[]> = {
  p: [],
  h3: [],
  h4: [],
  h5: [],
  h6: [],
  em: [],
  strong: [],
  del: [],
  code: [],
  br: [],
  hr: [],
  bdi: [],
  blockquote: [],
  ul: [],
  li: [],
  span: [],
  table: [],
  thead: [],
  tbody: [],
  tr: [],
  th: [],
  td: [],
  ol: ["start"],
  a: ["href", "rel", "target"],
  img: ["alt", "loading", "src"],
  input: ["type", "disabled", "checked", "aria-label"],
  div: ["tabindex", "role", "aria-label"],
  pre: ["tabindex", "role", "aria-label"],
  button: ["type"],
  // What KaTeX makes.
  math: ["xmlns", "display"],
  semantics: [],
  annotation: ["encoding"],
  mrow: [],
  mi: ["mathvariant"],
  mn: ["mathvariant"],
  mo: ["stretchy", "fence", "separator", "lspace", "rspace", "minsize", "maxsize"],
  mtext: [],
  msup: [],
  msub: [],
  msubsup: [],
  mfrac: ["linethickness"],
  msqrt: [],
  mroot: [],
  mover: ["accent"],
  munder: ["accentunder"],
  munderover: [],
  mtable: ["rowspacing", "columnspacing", "columnalign"],
  mtr: [],
  mtd: [],
  mspace: ["width", "height", "mathbackground"],
  mstyle: ["scriptlevel", "displaystyle", "mathcolor"],
  mpadded: ["height", "voffset", "width", "lspace"],
  menclose: ["notation"],
  mphantom: [],
};
const CLASSES =
  /^(?:loose|task|table|align-(?:start|middle|end)|host|code-block|code-head|copy|piece|math|math-display|code-(?:comment|string|keyword|name|number|type|added|removed))$/;
const OWN_FILE = /^\/files\/[0-9a-f-]{36}$/;

/** Returns what is not allowed in an element's content. */
export function forbidden(root: Element): string[] {
  const found: string[] = [];
  for (const element of root.querySelectorAll("*")) {
    const name = element.localName;
    const attributes = Object.hasOwn(ELEMENTS, name) ? ELEMENTS[name] : undefined;
    if (attributes === undefined) {
      found.push(`<${name}>`);
      continue;
    }
    for (const { name: attribute, value } of element.attributes) {
      if (!GLOBAL.has(attribute) && !attributes.includes(attribute))
        found.push(`${name} ${attribute}`);
      if (attribute === "class" && !value.split(" ").every((one) => CLASSES.test(one)))
        found.push(`class ${value}`);
      if (attribute === "href" && !/^(?:https?:\/\/[^@/]+(?:\/|$)|mailto:)/.test(value))
        found.push(`href ${value}`);
      if (attribute === "src" && !OWN_FILE.test(value)) found.push(`src ${value}`);
    }
    if (name === "a" && element.getAttribute("rel") !== "noopener noreferrer nofollow")
      found.push("a without rel");
  }
  return found;
}
