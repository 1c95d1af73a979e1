/** What a client's user iterates over. */

import { Code } from "@connectrpc/connect";

import { isFinal } from "./conversation_state.ts";
import { ColloquyError } from "./errors.ts";
import type { ConversationEvent } from "./gen/conversation/v1/conversation_service_pb.ts";
import type { Message } from "./gen/conversation/v1/resources_pb.ts";
import type { ReplyResumption } from "./resumption.ts";

/**
 * Events, one after another. A loop that is left ends the call, as `close` does from elsewhere; an
 * abort of the caller's signal ends the loop with the signal's reason.
 */
export class Events<Event> implements AsyncIterableIterator<Event> {
  readonly #events: AsyncGenerator<Event, void, void>;
  readonly #closing = new AbortController();
  readonly #signal: AbortSignal | undefined;

  /** Nothing is called before the first event is asked for. */
  constructor(
    follow: (closing: AbortSignal) => AsyncGenerator<Event, void, void>,
    signal?: AbortSignal,
  ) {
    const signals = signal ? [signal, this.#closing.signal] : [this.#closing.signal];
    this.#signal = signal;
    this.#events = follow(AbortSignal.any(signals));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Event, void>> {
    const result = await this.#events.next();
    if (result.done) this.#signal?.throwIfAborted();
    return result;
  }

  async return(): Promise<IteratorResult<Event, void>> {
    this.close();
    return this.#events.return();
  }

  /** Ends the call: iterating ends. A reply goes on in the server. */
  close(): void {
    this.#closing.abort();
  }
}

/**
 * The events of one reply: `accepted`, then `message` and `delta`, last its final `message`.
 *
 * The joined deltas of its last attempt are its whole text.
 */
export class Reply extends Events<ConversationEvent> {
  /** Names the request; CancelReply takes it, also before anything was accepted. */
  readonly requestId: string;
  readonly #resumption: ReplyResumption;

  /** Nothing is sent before the first event is asked for. */
  constructor(
    requestId: string,
    resumption: ReplyResumption,
    follow: (closing: AbortSignal) => AsyncGenerator<ConversationEvent, void, void>,
    signal?: AbortSignal,
  ) {
    super(follow, signal);
    this.requestId = requestId;
    this.#resumption = resumption;
  }

  /** The user's message, undefined before it was accepted. */
  get prompt(): Message | undefined {
    return this.#resumption.prompt;
  }

  /** The reply of the last `accepted` or `message`, undefined before it was accepted. */
  get reply(): Message | undefined {
    return this.#resumption.reply;
  }

  /**
   * Waits for the end and returns the whole reply, whether completed, failed or cancelled. Throws
   * ColloquyError when the conversation is deleted meanwhile, or the reply closed before its end.
   */
  async result(): Promise<Message> {
    for await (const { event } of this) {
      if (event.case === "deleted") {
        const reason = "CONVERSATION_NOT_FOUND";
        throw new ColloquyError("the conversation was deleted", Code.NotFound, { reason });
      }
    }
    const { reply } = this;
    if (reply && isFinal(reply)) return reply;
    throw new ColloquyError(
      "the reply was left before its end; it goes on in the server",
      Code.Canceled,
    );
  }
}
