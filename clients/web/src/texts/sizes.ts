/** Sizes of files, for people. */

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte"] as const;

/** Returns a number of bytes as text, as "3.4 MB"; `language` is the browser's by default. */
export function sizeText(bytes: number, language?: string): string {
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.5 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit++;
  }
  return new Intl.NumberFormat(language, {
    style: "unit",
    unit: UNITS[unit] ?? "byte",
    unitDisplay: unit === 0 ? "long" : "short",
    maximumFractionDigits: amount < 10 && unit > 0 ? 1 : 0,
  }).format(amount);
}
