import { sentenceOf } from "../data/errors.ts";
import { notices } from "../data/notices.svelte.ts";

/** Does something that the server may refuse; a notice says why. */
export async function acting(action: Promise<unknown>): Promise<void> {
  try {
    await action;
  } catch (thrown) {
    notices.say(sentenceOf(thrown), "error");
  }
}

/** Copies a text; a notice says that it was. */
export async function copy(text: string, said: string, failed: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notices.say(said);
  } catch {
    notices.say(failed, "error");
  }
}
