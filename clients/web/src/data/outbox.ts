/**
 * Messages on their way: each is kept in this browser, with its request_id, until the server has
 * accepted it. So a reload, a lost connection or a crash in the middle sends it once.
 *
 * Each tab sends what is its own, one conversation's messages in their order. What a tab leaves
 * behind when it goes, another one sends: as the same request, so that nothing is said twice.
 */

import { fromJson, toJson, type JsonValue } from "@bufbuild/protobuf";
import {
  AttachmentSchema,
  Code,
  OnBusy,
  toColloquyError,
  type Attachment,
  type ColloquyError,
  type ConversationEvent_Accepted,
} from "@colloquy/client";

import { refusalOf } from "./errors.ts";
import { forgetAll, keep, keysOf, prefixOf } from "./storage.ts";

/** Something to be said. */
export interface Entry {
  readonly requestId: string;
  readonly conversationId: string;
  readonly content: string;
  readonly attachments: readonly Attachment[];
  readonly onBusy: OnBusy;
  /** Milliseconds since 1970, by this browser's clock. */
  readonly time: number;
}

interface Stored {
  readonly conversationId: string;
  readonly content: string;
  readonly attachments: JsonValue[];
  readonly onBusy: OnBusy;
  readonly time: number;
  /** The tab whose it is. */
  readonly owner: string;
  /** Why the server refused it, for the user to read and decide. */
  readonly refusal?: string;
}

/** What the outbox needs of the page. */
export interface Surroundings {
  /** Sends a message and returns when it is accepted. Throws ColloquyError. */
  send(entry: Entry): Promise<ConversationEvent_Accepted>;
  /** Waits so many seconds, or until there may be reason to try sooner. */
  wait(seconds: number): Promise<void>;
  /** This tab. */
  readonly tab: string;
  /** The tabs that are open; undefined where that cannot be known. */
  openTabs(): Promise<ReadonlySet<string> | undefined>;
  readonly storage: Storage;
}

/** How a message came out. */
export type Outcome =
  | { readonly accepted: ConversationEvent_Accepted }
  | { readonly refused: string; readonly error?: ColloquyError };

const FIRST_WAIT = 0.5;
const LONGEST_WAIT = 15;
/** An error inside the server may pass; one that comes so many times in a row does not. */
const MAX_SERVER_ERRORS = 3;

/** A message on its way. */
export class Delivery {
  readonly entry: Entry;
  /** An earlier page had begun to send it: the server may have it already. */
  readonly isResumed: boolean;
  /** It was tried without success, and will be again. */
  isWaiting = false;
  readonly outcome: Promise<Outcome>;
  /** Called when `isWaiting` changes. */
  onChange: () => void = () => undefined;
  settle!: (outcome: Outcome) => void;

  constructor(entry: Entry, isResumed: boolean) {
    this.entry = entry;
    this.isResumed = isResumed;
    this.outcome = new Promise((resolve) => (this.settle = resolve));
  }

  setWaiting(isWaiting: boolean): void {
    if (this.isWaiting === isWaiting) return;
    this.isWaiting = isWaiting;
    this.onChange();
  }
}

export class Outbox {
  readonly #around: Surroundings;
  readonly #prefix: string;
  readonly #deliveries = new Map<string, Delivery>();
  /** The end of the last delivery of each conversation. */
  readonly #queues = new Map<string, Promise<unknown>>();
  #isClosed = false;

  constructor(userId: string, around: Surroundings) {
    this.#around = around;
    this.#prefix = prefixOf("outbox", userId);
  }

  /** Keeps a message and sends it after those of its conversation that are on their way. */
  add(entry: Entry): Delivery {
    this.#keep(entry);
    return this.#begin(entry, false);
  }

  /** What is on its way, or was refused, in a conversation: oldest first. */
  of(conversationId: string): Delivery[] {
    const all = [...this.#deliveries.values()];
    return all.filter(({ entry }) => entry.conversationId === conversationId);
  }

  /** Forgets a message that was refused. */
  discard(requestId: string): void {
    this.#deliveries.delete(requestId);
    keep(this.#around.storage, this.#prefix + requestId, "");
  }

  /** Takes over what tabs left behind that are gone. */
  async adopt(): Promise<void> {
    const open = await this.#around.openTabs();
    const found: [Entry, Stored][] = [];
    for (const key of keysOf(this.#around.storage, this.#prefix)) {
      const requestId = key.slice(this.#prefix.length);
      const text = this.#around.storage.getItem(key);
      if (text === null || this.#deliveries.has(requestId)) continue;
      const stored = JSON.parse(text) as Stored;
      if (open?.has(stored.owner)) continue;
      const attachments = stored.attachments.map((one) => fromJson(AttachmentSchema, one));
      found.push([{ ...stored, requestId, attachments }, stored]);
    }
    found.sort(([one], [other]) => one.time - other.time);
    for (const [entry, { refusal }] of found) {
      this.#keep(entry, refusal);
      if (refusal === undefined) {
        this.#begin(entry, true);
      } else {
        const delivery = new Delivery(entry, true);
        this.#deliveries.set(entry.requestId, delivery);
        delivery.settle({ refused: refusal });
      }
    }
  }

  /** Sends no more: the session ended. What is here stays kept. */
  close(): void {
    this.#isClosed = true;
  }

  /** Forgets all of this user's messages. */
  clear(): void {
    this.close();
    forgetAll(this.#around.storage, this.#prefix);
  }

  #keep(entry: Entry, refusal?: string): void {
    const stored: Stored = {
      conversationId: entry.conversationId,
      content: entry.content,
      attachments: entry.attachments.map((one) => toJson(AttachmentSchema, one)),
      onBusy: entry.onBusy,
      time: entry.time,
      owner: this.#around.tab,
      ...(refusal !== undefined && { refusal }),
    };
    keep(this.#around.storage, this.#prefix + entry.requestId, JSON.stringify(stored));
  }

  #begin(entry: Entry, isResumed: boolean): Delivery {
    const delivery = new Delivery(entry, isResumed);
    this.#deliveries.set(entry.requestId, delivery);
    const before = this.#queues.get(entry.conversationId) ?? Promise.resolve();
    const sent = before.then(() => this.#deliver(delivery));
    this.#queues.set(entry.conversationId, sent);
    return delivery;
  }

  async #deliver(delivery: Delivery): Promise<void> {
    const { entry } = delivery;
    let serverErrors = 0;
    for (let failures = 0; !this.#isClosed; failures++) {
      let error: ColloquyError;
      try {
        const accepted = await this.#around.send(entry);
        this.discard(entry.requestId);
        delivery.settle({ accepted });
        return;
      } catch (thrown) {
        error = toColloquyError(thrown);
      }
      if (isServerError(error)) serverErrors++;
      if (error.code === Code.Unauthenticated) return; // kept until somebody signs in again
      if (!mayPass(error) || serverErrors >= MAX_SERVER_ERRORS) {
        const refused = refusalOf(error);
        this.#keep(entry, refused);
        delivery.settle({ refused, error });
        return;
      }
      delivery.setWaiting(true);
      const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures);
      await this.#around.wait(Math.max(wait, error.retryAfter ?? 0));
    }
  }
}

function isServerError({ code }: ColloquyError): boolean {
  return code === Code.Internal || code === Code.Unknown || code === Code.DataLoss;
}

/** Whether the same message may be accepted a little later: a budget starts anew after days, and
 * whoever wrote it sends it again then. */
function mayPass(error: ColloquyError): boolean {
  if (error.code === Code.ResourceExhausted) {
    return error.reason === "RATE_LIMITED" || error.reason === "OVERLOADED";
  }
  return error.transient || error.code === Code.DeadlineExceeded || isServerError(error);
}
