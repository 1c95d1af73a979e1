/**
 * Math in Markdown: `$x$`, `\(x\)`, `$$x$$` and `\[x\]`, within a line and as blocks.
 *
 * A single dollar opens math only before what is no space and closes it only after what is none and
 * before what is no digit, as in Pandoc: "from $5 to $10" stays prose.
 */

import type { MarkdownIt, StateBlock, StateInline } from "markdown-it";

/** What `info` says of a block whose end did not come. */
export const UNENDED = "unended";

const DOLLAR = 0x24;
const BACKSLASH = 0x5c;

/** What opens and closes math within a line, and whether it is shown on a line of its own. */
const PAIRS = [
  { open: "$$", close: "$$", display: true },
  { open: "$", close: "$", display: false },
  { open: "\\(", close: "\\)", display: false },
  { open: "\\[", close: "\\]", display: true },
];

function inlineMath(state: StateInline, silent: boolean): boolean {
  const first = state.src.charCodeAt(state.pos);
  if (first !== DOLLAR && first !== BACKSLASH) return false;
  const pair = PAIRS.find(({ open }) => state.src.startsWith(open, state.pos));
  if (pair === undefined) return false;
  const start = state.pos + pair.open.length;
  const end = closing(state, pair.close, start);
  if (end < 0) return false;
  if (!silent) {
    const token = state.push("math", "", 0);
    token.content = state.src.slice(start, end).trim();
    token.markup = pair.open;
    token.block = pair.display;
  }
  state.pos = end + pair.close.length;
  return true;
}

/** Returns where math that begins at `start` ends, or -1. */
function closing(state: StateInline, close: string, start: number): number {
  // What is not closed is looked for once in a text, not once for each opening.
  const env = state.env as { unclosed?: Map<string, [string, number]> };
  const unclosed = (env.unclosed ??= new Map());
  const [text, from] = unclosed.get(close) ?? ["", 0];
  if (text === state.src && start >= from) return -1;
  for (let end = state.src.indexOf(close, start); end >= 0;) {
    if (end >= state.posMax) break;
    if (end > start && isClosing(state.src, close, start, end)) return end;
    if (close === "$") {
      // A dollar that cannot close this one ends the search: two amounts are no math.
      if (!escaped(state.src, end)) return -1;
    }
    end = state.src.indexOf(close, end + 1);
  }
  unclosed.set(close, [state.src, start]);
  return -1;
}

function isClosing(text: string, close: string, start: number, end: number): boolean {
  if (escaped(text, end)) return false;
  if (close !== "$") return true;
  const [first, last, next] = [text[start] ?? "", text[end - 1] ?? "", text[end + 1] ?? ""];
  return !/\s/.test(first) && !/\s/.test(last) && !/\d/.test(next);
}

/** Tells whether a backslash takes away the meaning of what is at `position`. */
function escaped(text: string, position: number): boolean {
  let slashes = 0;
  while (text.charCodeAt(position - 1 - slashes) === BACKSLASH) slashes += 1;
  return slashes % 2 === 1;
}

const BLOCKS = new Map([
  ["$$", "$$"],
  ["\\[", "\\]"],
]);

/** Math as a block begins with its sign alone on a line, or before an environment, or is all of its
 * line; it ends with the sign at a line's end. The first line decides, as all first lines do: what
 * comes later cannot make something else of what was read. Without its end, it ends before the next
 * blank line, and is shown as it was typed. */
function mathBlock(
  state: StateBlock,
  startLine: number,
  endLine: number,
  silent: boolean,
): boolean {
  const begin = (state.bMarks[startLine] ?? 0) + (state.tShift[startLine] ?? 0);
  const markup = state.src.slice(begin, begin + 2);
  const close = BLOCKS.get(markup);
  if (close === undefined || (state.sCount[startLine] ?? 0) - state.blkIndent >= 4) return false;
  const first = state.src.slice(begin + 2, state.eMarks[startLine]).trim();
  const lines: string[] = [];
  let line = startLine + 1;
  let ended = false;
  if (first.endsWith(close) && first.indexOf(close) === first.length - close.length) {
    lines.push(first.slice(0, -close.length));
    if (lines[0]?.trim() === "") return false;
    ended = true;
  } else if (first === "" || first.startsWith("\\begin")) {
    lines.push(first);
    for (; line < endLine && !ended; line += 1) {
      if (state.isEmpty(line) || (state.sCount[line] ?? 0) < state.blkIndent) break;
      const text = state.src.slice(state.bMarks[line], state.eMarks[line]).trimEnd();
      ended = text.endsWith(close);
      lines.push(ended ? text.slice(0, -close.length) : text);
    }
  } else return false;
  if (silent) return true;
  state.line = line;
  const token = state.push("math", "", 0);
  token.block = true;
  token.content = lines.join("\n").trim();
  token.markup = markup;
  token.info = ended ? "" : UNENDED;
  token.map = [startLine, line];
  return true;
}

/** Teaches a parser math: its tokens are of the type `math`, and `block` says how they are shown. */
export function addMath(markdown: MarkdownIt): void {
  markdown.inline.ruler.before("escape", "math", inlineMath);
  markdown.block.ruler.before("fence", "math", mathBlock, {
    alt: ["paragraph", "reference", "blockquote", "list"],
  });
}
