/**
 * Stretches of a conversation: what is drawn, or not, together.
 *
 * A message stays in the stretch that it is in, whatever comes before or after it: so a stretch that
 * is drawn stays as it is.
 */

/** How many messages a stretch has at most. */
export const LENGTH = 10;

/** Messages that follow one another. */
export interface Stretch<T> {
  /** That of its first message. */
  readonly key: string;
  readonly items: readonly T[];
  /** The message before it. */
  readonly before: T | undefined;
}

/** Splits a list that grows at both ends. */
export class Stretches<T extends { readonly key: string }> {
  /** The keys of the messages that a stretch begins with. */
  #begins: ReadonlySet<string> = new Set();

  /** Returns the stretches of a list, of which those that it had before stay. */
  split(items: readonly T[]): Stretch<T>[] {
    const stretches: Stretch<T>[] = [];
    let begin = 0;
    items.forEach(({ key }, at) => {
      if (at > begin && (this.#begins.has(key) || at - begin === LENGTH)) {
        stretches.push(stretchOf(items, begin, at));
        begin = at;
      }
    });
    if (items.length > 0) stretches.push(stretchOf(items, begin, items.length));
    this.#begins = new Set(stretches.map(({ key }) => key));
    return stretches;
  }
}

function stretchOf<T extends { readonly key: string }>(
  items: readonly T[],
  begin: number,
  end: number,
): Stretch<T> {
  const key = items[begin]?.key ?? "";
  return { key, items: items.slice(begin, end), before: items[begin - 1] };
}
