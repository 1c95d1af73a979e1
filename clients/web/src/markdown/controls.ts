/** Characters that are not seen and change the direction of the text around them. */

export const BIDI_CONTROLS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Returns code in which they are spelt out: the code that is read is the code that runs. */
export function visibleControls(code: string): string {
  return code.replace(
    BIDI_CONTROLS,
    (control) => `⟨U+${control.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}
