/**
 * What to do when a stream breaks: the decisions, without a network. `following.ts` does what a
 * resumption says.
 *
 *                  ┌────────── broke ──────────┐          ┌──── broke ─────┐
 *                  ▼                           │          ▼                │
 *     token null: send, same request_id ──accepted──▶ token: watch from it ──final message──▶ done
 */

import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";

import { isFinal } from "./conversation_state.ts";
import { Deduplicator } from "./deduplication.ts";
import type { ColloquyError } from "./errors.ts";
import {
  ConversationEventSchema,
  ConversationEvent_DeletedSchema,
  ConversationsEventSchema,
  ConversationsEvent_ResetSchema,
} from "./gen/conversation/v1/conversation_service_pb.ts";
import type {
  ConversationEvent,
  ConversationsEvent,
} from "./gen/conversation/v1/conversation_service_pb.ts";
import type { Message } from "./gen/conversation/v1/resources_pb.ts";
import type { Retry } from "./retry.ts";

/** One stream of the caller, over as many calls as it takes. */
export interface Resumption<Event> {
  /** Whether the caller has been told all. */
  readonly done: boolean;
  readonly retry: Retry;
  /**
   * Takes an event and returns what to yield to the caller.
   *
   * Throws OutOfOrder when text before it is missing: the call is then as good as broken.
   */
  receive(event: Event): Event[];
  /** Takes the end of a call and returns what to yield to the caller. */
  disconnected(failure: ColloquyError): Event[];
}

/** Follows what happens in a conversation. */
abstract class ConversationResumption implements Resumption<ConversationEvent> {
  done = false;
  readonly retry: Retry;
  protected readonly deduplicator: Deduplicator;
  /** Whether a call went so far that the server knows the conversation. */
  protected isKnown = false;

  constructor(retry: Retry, token = "") {
    this.retry = retry;
    this.deduplicator = new Deduplicator(token);
  }

  abstract receive(event: ConversationEvent): ConversationEvent[];

  /** A conversation that was there and is no more was deleted while nobody listened. */
  disconnected(failure: ColloquyError): ConversationEvent[] {
    if (!this.isKnown || failure.code !== Code.NotFound) return [];
    this.done = true;
    const value = create(ConversationEvent_DeletedSchema);
    const event = { case: "deleted", value } as const;
    return [create(ConversationEventSchema, { resumeToken: this.deduplicator.token, event })];
  }

  /** Takes that something, if only a heartbeat, came of a call. */
  protected progressed(event: ConversationEvent, pieces: ConversationEvent[]): void {
    if (pieces.length > 0 || event.event.case === "heartbeat") this.retry.reset();
  }
}

/** Follows one reply: the answer to SendMessage or RegenerateReply. */
export class ReplyResumption extends ConversationResumption {
  /** The user's message of `accepted`; undefined before it. */
  prompt: Message | undefined;
  /** The reply of the last event with it; undefined before `accepted`. */
  reply: Message | undefined;

  /** Where WatchConversation goes on; null to make the original call (again). */
  get token(): string | null {
    return this.reply ? this.deduplicator.token : null;
  }

  /** Returns what of an event belongs to the prompt or its reply, and is new. */
  receive(event: ConversationEvent): ConversationEvent[] {
    if (event.event.case === "accepted") {
      this.retry.persist();
      this.isKnown = true;
      this.prompt = event.event.value.message;
      this.reply = event.event.value.reply;
    }
    const { prompt, reply } = this;
    if (!prompt || !reply) return [];
    const pieces = this.deduplicator.apply(event).filter(({ event: { case: kind, value } }) => {
      // WatchConversation sends everything; SendMessage would not have.
      if (kind === "message") return value.id === prompt.id || value.id === reply.id;
      if (kind === "delta") return value.messageId === reply.id;
      return kind !== "conversation";
    });
    for (const { event: piece } of pieces) {
      if (piece.case === "message" && piece.value.id === reply.id) {
        this.reply = piece.value;
        this.done = isFinal(piece.value);
      }
      if (piece.case === "deleted") this.done = true;
    }
    this.progressed(event, pieces);
    return pieces;
  }
}

/** Follows a conversation until it is deleted. */
export class WatchResumption extends ConversationResumption {
  /** Where to go on; empty until the first event, unless the caller gave one. */
  get token(): string {
    return this.deduplicator.token;
  }

  /** Returns what of an event is new. */
  receive(event: ConversationEvent): ConversationEvent[] {
    this.retry.persist();
    this.isKnown = true;
    const pieces = this.deduplicator.apply(event);
    this.done = event.event.case === "deleted";
    this.progressed(event, pieces);
    return pieces;
  }
}

/** Follows the conversations that the caller sees, for ever. */
export class IndexResumption implements Resumption<ConversationsEvent> {
  readonly done = false;
  readonly retry: Retry;
  /** Where to go on; empty until what a watch begins with is told, unless the caller gave one. */
  token: string;
  #hasToldSomething = false;

  constructor(retry: Retry, token: string) {
    this.retry = retry;
    this.token = token;
  }

  /** Returns the event, unless it is a heartbeat. */
  receive(event: ConversationsEvent): ConversationsEvent[] {
    this.retry.persist();
    this.retry.reset();
    this.token = event.resumeToken || this.token;
    if (event.event.case === "heartbeat") return [];
    this.#hasToldSomething = true;
    return [event];
  }

  /** The next call begins anew when it cannot go on: what is gone meanwhile it will not tell. */
  disconnected(): ConversationsEvent[] {
    if (this.token || !this.#hasToldSomething) return [];
    this.#hasToldSomething = false;
    const value = create(ConversationsEvent_ResetSchema);
    return [create(ConversationsEventSchema, { event: { case: "reset", value } })];
  }
}
