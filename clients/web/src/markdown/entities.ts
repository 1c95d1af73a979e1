/**
 * Named characters (`&rarr;`), as the browser knows them. It stands for the package `entities` in the
 * built page, whose table of all 2,231 names would be a tenth of the first load.
 */

const KNOWN = new Map<string, string>();

/** Returns the character that `&name;` is, or the text as it is when there is no such name. */
export function decodeHTMLStrict(reference: string): string {
  let decoded = KNOWN.get(reference);
  if (decoded === undefined) {
    decoded = asked(reference);
    if (decoded !== reference) KNOWN.set(reference, decoded);
  }
  return decoded;
}

function asked(reference: string): string {
  // A document that is not shown: nothing in it runs or loads. White space at its beginning would go.
  const { body } = new DOMParser().parseFromString(`.${reference}`, "text/html");
  const text = body.textContent.slice(1);
  // Of some names HTML takes the beginning, and leaves the rest: `&notit;` would be `¬it;`.
  return text.length > 1 && text.endsWith(";") ? reference : text;
}
