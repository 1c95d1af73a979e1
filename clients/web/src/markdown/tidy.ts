/**
 * What is shown of a text whose end is still being written.
 *
 * Half a construct would look like something else for a moment: a dash under a paragraph like a
 * heading, half a link like brackets, a table's head like a sentence with bars. What may yet become
 * something else is held back for the moment, and what is open is closed. Only what is shown changes:
 * the text itself is parsed as it is when it is whole.
 */

/** A line that begins like a block of another kind than it may turn out to be. */
const AMBIGUOUS = /^[ \t]*(?:[-=+*_>#|:]+|\d{1,9}[.)]?|`{1,3}|~{1,3}|\\|\$)?[ \t]*$/;
/** The head of a table without the line below it, or with a part of that. */
const TABLE_HEAD = /(^|\n) {0,3}\|[^\n]*\n?[ \t]*[|:\- \t]*$/;
/** The line below the head of a table. */
const DELIMITER = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*\|/m;
/** A link or a picture without its end. */
const OPEN_LINK = /!?\[([^\][\n]*)(?:\]\([^()\n]*)?$/;
/** How long a paragraph may be to be looked through, in characters. */
const MAX_LENGTH = 4000;
const MARKS = ["**", "__", "~~", "*", "_"];

/** Returns a text's end as it can be shown; `inTable`: it goes on with the rows of a table. */
export function tidy(text: string, inTable: boolean): string {
  const lineStart = text.lastIndexOf("\n") + 1;
  const line = text.slice(lineStart);
  let shown = text;
  if (line !== "" && AMBIGUOUS.test(line)) shown = text.slice(0, lineStart);
  if (inTable) return shown;
  // The last paragraph begins after the last blank line.
  const start = shown.lastIndexOf("\n\n") + 1;
  const block = shown.slice(start);
  if (block.length > MAX_LENGTH) return shown;
  if (/^[ \t]*(?:```|~~~|\$\$|\\\[)/m.test(block)) return shown;
  // A table's rows are shown as they come.
  if (DELIMITER.test(block)) return shown;
  const head = TABLE_HEAD.exec(block);
  if (head !== null) return shown.slice(0, start + head.index + (head[1] ?? "").length);
  // Lines that have ended decide what the blocks are, and stay as they are.
  return shown.endsWith("\n") ? shown : shown.slice(0, start) + closed(block);
}

/** Returns a paragraph whose links, code and emphasis end. */
function closed(block: string): string {
  const end = block.trimEnd();
  const space = block.slice(end.length);
  let text = end.replace(OPEN_LINK, (_, words: string) => words.trimStart());
  // Spans of code first: what is in them means nothing.
  const plain = text.replace(/(`+)(?!`)[\s\S]*?(?<!`)\1(?!`)/g, "").replace(/\\./g, "");
  const tick = /`+(?=[^`])/.exec(plain);
  if (tick !== null) return text + tick[0] + space;
  text = text.replace(/(?<=\s|^)(?:[*_~]{1,3}|`+)$/, "");
  for (const mark of MARKS) {
    const open = opener(plain, mark);
    if (open) return text.replace(/[*_~]+$/, "") + mark + space;
  }
  return text + space;
}

/** Tells whether a mark of emphasis is open at a text's end. */
function opener(text: string, mark: string): boolean {
  const sign = mark.charAt(0).replace("*", "\\*");
  const run = new RegExp(`(?<!${sign})${sign}{${mark.length}}(?!${sign})`, "g");
  let open = false;
  for (const { index } of text.matchAll(run)) {
    const before = text[index - 1] ?? " ";
    const after = text[index + mark.length] ?? " ";
    if (!open) open = /[\s([{"'*_~>|—-]/.test(before) && !/\s/.test(after);
    else if (!/\s/.test(before)) open = false;
  }
  return open;
}
