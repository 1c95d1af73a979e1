/** What this browser keeps for a user: drafts, and messages on their way.
 *
 * Each thing has a key of its own, so that tabs which write at once do not undo each other. */

/** The keys of one kind of things of one user begin like this. */
export function prefixOf(kind: string, userId: string): string {
  return `colloquy:${kind}:${userId}:`;
}

/** Keeps a text; empty forgets it. Returns whether it is kept: the browser may have no room. */
export function keep(storage: Storage, key: string, text: string): boolean {
  try {
    if (text === "") storage.removeItem(key);
    else storage.setItem(key, text);
    return true;
  } catch {
    return false;
  }
}

/** The keys that begin like this. */
export function keysOf(storage: Storage, prefix: string): string[] {
  const keys = Array.from({ length: storage.length }, (_, place) => storage.key(place) ?? "");
  return keys.filter((key) => key.startsWith(prefix));
}

/** Forgets everything whose key begins like this. */
export function forgetAll(storage: Storage, prefix: string): void {
  for (const key of keysOf(storage, prefix)) storage.removeItem(key);
}
