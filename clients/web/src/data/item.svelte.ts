/** One message of an open conversation. */

import {
  codePointLength,
  isFinal,
  unseen,
  type ConversationEvent_Delta,
  type Message,
} from "@colloquy/client";

import type { ColloquyError } from "./errors.ts";

/** Where a message of this browser is that the server has not accepted. */
export type Local = "sending" | "waiting-for-network" | "refused";

export class Item {
  /** The message's id; of one that is not accepted yet, the id of its request. */
  id: string = $state("");
  /** Stays the same when a message is accepted: what lists are keyed by. */
  readonly key: string;
  /** As the server last told it; `content` may be behind `text`. */
  message: Message = $state.raw() as Message;
  /** The text, live. */
  text = $state("");
  /** Of a reply: the older replies to the same prompt, oldest first. */
  versions: Item[] = $state.raw([]);
  local: Local | undefined = $state();
  /** Why it was refused. */
  error: ColloquyError | undefined = $state.raw();

  /** All text, of which `text` shows what came up to the last frame. */
  #written: string;
  #length: number;

  constructor(message: Message) {
    this.id = message.id;
    this.key = message.id;
    this.message = message;
    this.text = this.#written = message.content;
    this.#length = codePointLength(message.content);
  }

  /** Takes the message as it now stands; what is behind what is held changes nothing. */
  replace(message: Message): void {
    const length = codePointLength(message.content);
    if (!isFinal(message) && this.#isBehind(message, length)) return;
    this.id = message.id;
    this.message = message;
    this.#written = message.content;
    this.#length = length;
    this.show();
  }

  /** Takes more text, which shows with the next frame. Throws OutOfOrder when text before it is
   * missing. */
  append(delta: ConversationEvent_Delta): void {
    if (isFinal(this.message)) return;
    const text = unseen(delta, this.message.attempt, this.#length);
    if (text === "") return;
    this.#written += text;
    this.#length += codePointLength(text);
    showSoon(this);
  }

  /** Shows all text that is there. */
  show(): void {
    this.text = this.#written;
  }

  /** A tab that joins others hears things that are older than what it has listed. */
  #isBehind({ attempt }: Message, length: number): boolean {
    const held = this.message;
    if (isFinal(held)) return true;
    return attempt < held.attempt || (attempt === held.attempt && length < this.#length);
  }
}

/** Milliseconds after which text shows when there are no frames, as in a tab that is hidden. */
const NO_FRAME = 250;

// Nothing shows it.
// eslint-disable-next-line svelte/prefer-svelte-reactivity
const unshown = new Set<Item>();

function showSoon(item: Item): void {
  unshown.add(item);
  if (unshown.size > 1) return;
  const frame = requestAnimationFrame(show);
  const timer = setTimeout(show, NO_FRAME);

  function show(): void {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    for (const one of unshown) one.show();
    unshown.clear();
  }
}
