/**
 * The parsers: from text to markdown-it's tokens, which `build.ts` makes DOM nodes of.
 *
 * markdown-it keeps to CommonMark and GFM, takes a tenth of the time of the parsers that make a
 * syntax tree, and has no input that it is slow on. Of its HTML output nothing is used.
 */

import createParser, { type Env, type MarkdownIt, type StateCore, type Token } from "markdown-it";

import { addMath } from "./math.ts";

export type { Token };

/** How many characters a paragraph, a heading or a cell may have to be looked through for emphasis,
 * links and the like: what is longer is shown as it stands. */
export const MAX_INLINE = 32_768;

/** Link reference definitions, by normalised label, as markdown-it keeps them. */
export interface References extends Env {
  references: Record<string, { href: string; title: string }>;
}

/** Returns an environment in which no link is defined yet, or those of another one are. */
export function references(known?: References): References {
  return { references: Object.create(known?.references ?? null) as References["references"] };
}

function leaveOversized(state: StateCore): void {
  for (const token of state.tokens) {
    if (token.type === "inline" && token.content.length > MAX_INLINE) token.type = "oversized";
  }
}

function parser(preset: "default" | "zero"): MarkdownIt {
  const markdown = createParser(preset, { html: false, linkify: true, breaks: true });
  // Only what says that it is a link becomes one: not every word with a dot in it.
  markdown.linkify.set({ fuzzyLink: false, fuzzyIP: false, fuzzyEmail: false });
  markdown.core.ruler.after("block", "oversized", leaveOversized);
  return markdown;
}

const REPLIES = parser("default").set({ breaks: false });
addMath(REPLIES);

const PEOPLE = parser("zero").enable([
  "linkify",
  "fence",
  "backticks",
  "newline",
  "text_join",
  "autolink",
]);

/** Parses what a model writes: CommonMark with GFM's tables, strikethrough and autolinks, and math.
 * Links that the text defines are added to `known`. */
export function parseReply(text: string, known: References): Token[] {
  return REPLIES.parse(text, known);
}

/** Parses what a person writes: code and links are found, all else is as it was typed. */
export function parsePerson(text: string): Token[] {
  return PEOPLE.parse(text, {});
}
