/**
 * Text counted in Unicode code points, as the API's offsets are. JavaScript counts UTF-16 units, of
 * which an emoji has two.
 */

/** Tells whether a UTF-16 unit is the second half of a code point. */
function isSecondHalf(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}

/** Returns how many code points a text has. */
export function codePointLength(text: string): number {
  let halves = 0;
  for (let index = 0; index < text.length; index++) {
    if (isSecondHalf(text.charCodeAt(index))) halves++;
  }
  return text.length - halves;
}

/** Returns a text without its first code points. */
export function withoutFirst(text: string, codePoints: number): string {
  let index = 0;
  for (let left = codePoints; left > 0 && index < text.length; left--) {
    index += isSecondHalf(text.charCodeAt(index + 1)) ? 2 : 1;
  }
  return text.slice(index);
}
