/** What can go wrong, as sentences for people. */

import { Code, ColloquyError, toColloquyError } from "@colloquy/client";

import { texts } from "../texts/en.ts";
import { wholeTime } from "../texts/times.ts";

export { ColloquyError };

/** Returns the sentence that tells what was thrown. */
export function sentenceOf(thrown: unknown): string {
  const error = toColloquyError(thrown);
  if (error.code === Code.Unavailable || error.code === Code.DeadlineExceeded) {
    return texts.data.unreachable;
  }
  if (error.reason === "") return texts.data.unknownError;
  return Object.values(error.fields)[0] ?? refusalOf(error);
}

/** Returns why something was refused: of a budget also when it starts anew, where one is. */
export function refusalOf({ message, reason, retryAfter }: ColloquyError): string {
  if (reason !== "BUDGET_EXCEEDED" || retryAfter === undefined) return message;
  // Budgets start anew at a full minute, and the answer was a moment on its way.
  const minutes = Math.round((Date.now() / 1000 + retryAfter) / 60);
  return `${message} ${texts.data.inYourTime(wholeTime(new Date(minutes * 60_000)))}`;
}
