import { texts } from "../texts/en.ts";

/** What browsers call themselves. Most of them name others too, so the order counts. */
const BROWSERS: readonly [RegExp, string][] = [
  [/\bEdgA?\//u, "Edge"],
  [/\bOPR\//u, "Opera"],
  [/\b(?:Firefox|FxiOS)\//u, "Firefox"],
  [/\bSamsungBrowser\//u, "Samsung Internet"],
  [/\b(?:HeadlessChrome|Chromium|Chrome|CriOS)\//u, "Chrome"],
  [/\bSafari\//u, "Safari"],
];

const SYSTEMS: readonly [RegExp, string][] = [
  [/\biPhone\b/u, "iPhone"],
  [/\biPad\b/u, "iPad"],
  [/\bAndroid\b/u, "Android"],
  [/\bWindows\b/u, "Windows"],
  [/\bMac OS X\b/u, "macOS"],
  [/\bCrOS\b/u, "ChromeOS"],
  [/\bLinux\b/u, "Linux"],
];

function named(userAgent: string, names: readonly [RegExp, string][]): string | undefined {
  return names.find(([pattern]) => pattern.test(userAgent))?.[1];
}

/** Says in words what a session's browser is: `Firefox on Windows`. */
export function deviceName(userAgent: string): string {
  const browser = named(userAgent, BROWSERS);
  const system = named(userAgent, SYSTEMS);
  if (browser !== undefined && system !== undefined) return texts.settings.device(browser, system);
  return browser ?? system ?? texts.settings.unknownDevice;
}
