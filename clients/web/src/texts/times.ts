import { texts } from "./en.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** As people of this browser's country write them, when it speaks the page's language. */
const locale = ofCountry(navigator.language);

function ofCountry(language: string): string {
  try {
    const [known] = Intl.DateTimeFormat.supportedLocalesOf(language);
    return known?.startsWith(texts.language) ? known : texts.language;
  } catch {
    return texts.language; // some browsers say what is none, as "en-US@posix"
  }
}

const hours = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(locale, { weekday: "short" });
const dayOfYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const longWeekday = new Intl.DateTimeFormat(locale, { weekday: "long" });
const longDay = new Intl.DateTimeFormat(locale, { dateStyle: "long" });
const whole = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "short" });

function startOfDay(time: Date): number {
  return new Date(time.getFullYear(), time.getMonth(), time.getDate()).getTime();
}

/** How long ago, in as few letters as a list has room for: `now`, `5 min`, `14:05`, `Mon`, `3 Mar`. */
export function shortTime(time: Date, now: Date): string {
  const age = now.getTime() - time.getTime();
  if (age < MINUTE) return texts.times.now;
  if (age < 60 * MINUTE) return texts.times.minutes(Math.floor(age / MINUTE));
  const days = Math.round((startOfDay(now) - startOfDay(time)) / DAY);
  if (days === 0) return hours.format(time);
  if (days === 1) return texts.times.yesterday;
  if (days < 7) return weekday.format(time);
  return (time.getFullYear() === now.getFullYear() ? dayOfYear : day).format(time);
}

/** The time of day: `14:05`. */
export function hourTime(time: Date): string {
  return hours.format(time);
}

/** Which day it is, as a heading: `Today`, `Monday`, `3 March 2026`. */
export function dayText(time: Date, now: Date): string {
  const days = Math.round((startOfDay(now) - startOfDay(time)) / DAY);
  if (days === 0) return texts.conversation.today;
  if (days === 1) return texts.conversation.yesterday;
  return (days > 1 && days < 7 ? longWeekday : longDay).format(time);
}

/** Day and time, in full: for tooltips. */
export function wholeTime(time: Date): string {
  return whole.format(time);
}
