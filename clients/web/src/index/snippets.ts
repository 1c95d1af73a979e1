/** A piece of a snippet. */
export interface Piece {
  text: string;
  /** It is one of the words that were looked for. */
  found: boolean;
}

/** Takes a snippet apart at the marks « and », which stand around the words that were found. */
export function pieces(snippet: string): Piece[] {
  return snippet
    .split(/«([^«»]*)»/u)
    .map((text, at) => ({ text, found: at % 2 === 1 }))
    .filter(({ text }) => text !== "");
}

/** Whether each of the words that one typed begins a word of a title, in any case and accents. */
export function titleMatches(title: string, query: string): boolean {
  const words = plain(title).split(/[^\p{L}\p{N}]+/u);
  return plain(query)
    .split(/\s+/u)
    .filter((typed) => typed !== "")
    .every((typed) => words.some((word) => word.startsWith(typed)) || plain(title).includes(typed));
}

function plain(text: string): string {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();
}
