/** Parts of the page that are loaded when they are first needed: the first load stays small. */

import { notices } from "../data/notices.svelte.ts";
import { texts } from "../texts/en.ts";

/** Returns a part of the page, or undefined after a notice: the network is away, or the server has
 * become a newer one, which has other files. */
export async function part<T>(loading: Promise<{ default: T }>): Promise<T | undefined> {
  try {
    return (await loading).default;
  } catch {
    notices.say(texts.shell.notLoaded, "error");
    return undefined;
  }
}
