/** The order in which messages are shown: prompts, each with the replies to it. */

import { Message_Role, type Message } from "@colloquy/client";

/** Something that holds a message. */
export interface Holder {
  message: Message;
}

/** A line of the conversation, and the older replies whose place it took, oldest first. */
export interface Row<T> {
  readonly item: T;
  readonly versions: T[];
}

/** Holds what is known of a conversation's messages: an unbroken run up to its end. */
export class Timeline<T extends Holder> {
  /** As the server orders them. */
  #all: T[] = [];
  readonly #byId = new Map<string, T>();

  get(id: string): T | undefined {
    return this.#byId.get(id);
  }

  /** All of them, replies that were superseded too, as the server orders them. */
  get all(): readonly T[] {
    return this.#all;
  }

  get size(): number {
    return this.#all.length;
  }

  /** Puts a page before what is there; those that are known stay as they are. */
  prepend(page: readonly T[]): void {
    const added = page.filter((one) => !this.#byId.has(one.message.id));
    for (const one of added) this.#byId.set(one.message.id, one);
    this.#all = [...added, ...this.#all];
  }

  /** Adds one that is new, by its time: as a rule at the end. */
  add(one: T): void {
    if (this.#byId.has(one.message.id)) return;
    this.#byId.set(one.message.id, one);
    let place = this.#all.length;
    while (place > 0 && isBefore(one.message, (this.#all[place - 1] as T).message)) place--;
    this.#all.splice(place, 0, one);
  }

  /** Whether a message comes before the first one that is known. */
  isOlder(message: Message): boolean {
    const first = this.#all[0];
    return first !== undefined && isBefore(message, first.message);
  }

  remove(id: string): void {
    if (this.#byId.delete(id)) this.#all = this.#all.filter((one) => one.message.id !== id);
  }

  /** Forgets all of them. */
  clear(): void {
    this.#all = [];
    this.#byId.clear();
  }

  /** Returns what is shown, oldest first. A reply stands after its prompt, however late it came. */
  rows(): Row<T>[] {
    const replies = new Map<string, [T, ...T[]]>();
    for (const one of this.#all) {
      if (!isReply(one.message)) continue;
      const known = replies.get(one.message.replyTo);
      if (known === undefined) replies.set(one.message.replyTo, [one]);
      else known.push(one);
    }
    const rows: Row<T>[] = [];
    for (const one of this.#all) {
      if (isReply(one.message)) {
        // The prompt may be on a page that is not loaded: then the first reply holds the place.
        if (this.#byId.has(one.message.replyTo)) continue;
        const versions = replies.get(one.message.replyTo);
        if (versions?.[0] === one) rows.push(rowOf(versions));
        continue;
      }
      rows.push({ item: one, versions: [] });
      const versions = replies.get(one.message.id);
      if (versions !== undefined) rows.push(rowOf(versions));
    }
    return rows;
  }
}

function isReply(message: Message): boolean {
  return message.role === Message_Role.ASSISTANT && message.replyTo !== "";
}

/** The latest reply that no other took the place of, and the others. */
function rowOf<T extends Holder>(replies: [T, ...T[]]): Row<T> {
  const current = replies.findLast((one) => !one.message.superseded) ?? replies[0];
  return { item: current, versions: replies.filter((one) => one !== current) };
}

function isBefore(one: Message, other: Message): boolean {
  const difference = timeOf(one) - timeOf(other);
  return difference < 0n || (difference === 0n && one.id < other.id);
}

/** Nanoseconds since 1970. */
function timeOf(message: Message): bigint {
  const time = message.createTime;
  return time === undefined ? 0n : time.seconds * 1_000_000_000n + BigInt(time.nanos);
}
