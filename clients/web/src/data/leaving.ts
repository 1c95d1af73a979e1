import { sentenceOf } from "./errors.ts";
import { notices } from "./notices.svelte.ts";
import { session } from "./session.svelte.ts";

/** Signs out; a notice says why when that did not work. */
export async function leave(): Promise<void> {
  try {
    await session.signOut();
  } catch (thrown) {
    notices.say(sentenceOf(thrown), "error");
  }
}
