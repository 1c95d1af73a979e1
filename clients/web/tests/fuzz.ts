/** Texts by chance, the same for a seed each time, made of what Markdown takes for signs. */

const PARTS = [
  "word ",
  "two words ",
  "\n",
  "\n",
  "\n\n",
  "\n\n",
  "- ",
  "\n- item",
  "\n  - nested",
  "\n1. ",
  "\n2) ",
  "\n* ",
  "* ",
  "**",
  "*",
  "_",
  "__",
  "~~",
  "`",
  "```",
  "\n```\n",
  "\n```py\n",
  "\n~~~\n",
  "    ",
  "  ",
  "\t",
  "> ",
  "\n> ",
  "\n# ",
  "\n## Title\n",
  "\n---\n",
  "\n===\n",
  "\n***\n",
  "| a | b |\n",
  "\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n",
  "|",
  "|---|---|\n",
  "| x | y |\n",
  "[a](https://example.org)",
  "[",
  "]",
  "(",
  ")",
  "[ref]",
  "[ref][ref]",
  "\n\n[ref]: https://example.org/ref\n",
  "[ref]: /x 'ti",
  "tle'\n",
  "![",
  "![p](https://example.org/p.png)",
  "<",
  "<b>",
  "<!-- ",
  "-->",
  "&amp;",
  "&",
  "$",
  "$$",
  "\n$$\n",
  "$x^2$",
  "\\(",
  "\\)",
  "\\[",
  "\\]",
  "\\",
  "https://example.org/path ",
  "<https://e.org>",
  "\n- [ ] task",
  "\n- [x] done",
  "\r\n",
  "\r",
  "😀",
  "שלום ",
  "\u202e",
  "\u0000",
  "\n\n    code\n",
  "\n+ ",
  "\n- a\n\n- b",
  "\n1. a\n   ```\n   code\n   ```\n2. b",
  "  \n",
  ":",
  "'",
  '"',
  "\n|",
  "\n-",
  "\n=",
];

/** Returns numbers from 0 to 1 by chance (mulberry32). */
export function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Returns a text of as many parts. */
export function textOf(random: () => number, parts: number): string {
  return Array.from({ length: parts }, () => PARTS[Math.floor(random() * PARTS.length)]).join("");
}

/** Returns a text in pieces, cut anywhere. */
export function pieces(random: () => number, text: string): string[] {
  const all: string[] = [];
  for (let at = 0; at < text.length;) {
    const length = 1 + Math.floor(random() ** 3 * 30);
    all.push(text.slice(at, at + length));
    at += length;
  }
  return all;
}
