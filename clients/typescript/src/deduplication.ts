/** Deduplicates the events of streams that break, overlap and repeat themselves. */

import { clone, create, equals } from "@bufbuild/protobuf";

import { isFinal, unseen } from "./conversation_state.ts";
import { OutOfOrder } from "./errors.ts";
import {
  ConversationEventSchema,
  ConversationEvent_AcceptedSchema,
  ConversationEvent_DeltaSchema,
} from "./gen/conversation/v1/conversation_service_pb.ts";
import type {
  ConversationEvent,
  ConversationEvent_Accepted,
  ConversationEvent_Delta,
} from "./gen/conversation/v1/conversation_service_pb.ts";
import {
  ConversationSchema,
  MessageSchema,
  Message_State,
} from "./gen/conversation/v1/resources_pb.ts";
import type { Conversation, Message } from "./gen/conversation/v1/resources_pb.ts";
import { codePointLength, withoutFirst } from "./text.ts";

/**
 * How many messages are remembered, so as not to yield them twice. A stream that resumes repeats at
 * most the last change, which touches a few messages.
 */
const MAX_REMEMBERED = 256;

/** What was passed on of a message: everything but its text, and how many code points that has. */
interface Seen {
  readonly shell: Message;
  length: number;
}

/**
 * Takes events as they come, from one stream after another, and returns each piece once.
 *
 * Whoever reads the result sees the deltas of an attempt join without gap or overlap, a larger
 * attempt begin with a message without text, and every other message repeated only when something
 * but its text changed. Where a stream leaves deltas out and sends the whole text instead, in a
 * message or in `accepted`, the missing delta is made from it. So the joined deltas equal the final
 * text, except when a reply is cancelled in a way that takes its last words back.
 *
 * Holds no text: its memory does not grow with the conversation.
 */
export class Deduplicator {
  /** Where to go on from. */
  token: string;
  /** After a token the first delta may belong to a message that was sent before it. */
  readonly #mayAdopt: boolean;
  readonly #seen = new Map<string, Seen>();
  #conversation: Conversation | undefined;

  /** Begins, or goes on after the event that `token` came with. */
  constructor(token = "") {
    this.token = token;
    this.#mayAdopt = token !== "";
  }

  /** Returns what of an event is new. Throws OutOfOrder when text before it is missing. */
  apply(event: ConversationEvent): ConversationEvent[] {
    const pieces = this.#pieces(event);
    this.token = event.resumeToken || this.token;
    return pieces;
  }

  #pieces(event: ConversationEvent): ConversationEvent[] {
    switch (event.event.case) {
      case "message":
        return this.#message(event, event.event.value);
      case "delta":
        return this.#delta(event, event.event.value);
      case "accepted":
        return this.#accepted(event, event.event.value);
      case "conversation": {
        const [before, now] = [this.#conversation, event.event.value];
        this.#conversation = now;
        return before && equals(ConversationSchema, before, now) ? [] : [event];
      }
      case "deleted":
        return [event];
      default:
        return [];
    }
  }

  #accepted(event: ConversationEvent, accepted: ConversationEvent_Accepted): ConversationEvent[] {
    const { message: prompt, reply } = accepted;
    if (prompt) this.#remember(prompt);
    if (!reply) return [event];
    this.#remember(reply);
    let pieces = [event];
    if (reply.content) {
      // A repeated request gets the text so far, whose deltas this reader did not get.
      const begun = create(ConversationEvent_AcceptedSchema, {
        ...(prompt && { message: prompt }),
        reply: beginning(reply),
      });
      pieces = [
        this.#made({ case: "accepted", value: begun }),
        this.#made({ case: "delta", value: made(reply, 0, reply.content) }),
      ];
    }
    if (isFinal(reply)) pieces.push(this.#made({ case: "message", value: reply }));
    return ending(pieces, event.resumeToken);
  }

  #message(event: ConversationEvent, message: Message): ConversationEvent[] {
    const seen = this.#seen.get(message.id);
    if (seen === undefined) {
      this.#remember(message);
      return [event];
    }
    const length = codePointLength(message.content);
    const changed = !equals(MessageSchema, shellOf(message), seen.shell);
    if (isFinal(seen.shell)) {
      if (!isFinal(message) || (!changed && length === seen.length)) return [];
      this.#remember(message);
      return [event];
    }
    const { attempt } = seen.shell;
    const isOlder =
      message.attempt < attempt || (message.attempt === attempt && length < seen.length);
    if (!isFinal(message) && isOlder) return [];
    const begins = message.attempt > attempt;
    const known = begins ? 0 : seen.length;
    const missing = message.attempt >= attempt ? withoutFirst(message.content, known) : "";
    const pieces: ConversationEvent[] = [];
    if (missing && begins) pieces.push(this.#made({ case: "message", value: beginning(message) }));
    if (missing) pieces.push(this.#made({ case: "delta", value: made(message, known, missing) }));
    if (isFinal(message) || (changed && !(missing && begins))) pieces.push(event);
    this.#remember(message);
    return ending(pieces, event.resumeToken);
  }

  #delta(event: ConversationEvent, delta: ConversationEvent_Delta): ConversationEvent[] {
    let seen = this.#seen.get(delta.messageId);
    if (seen === undefined) {
      if (!this.#mayAdopt) {
        throw new OutOfOrder(`text came for ${delta.messageId}, a message not told before`);
      }
      const shell = create(MessageSchema, { id: delta.messageId, attempt: delta.attempt });
      seen = { shell, length: delta.offset };
      this.#seen.set(delta.messageId, seen);
    }
    if (isFinal(seen.shell)) return [];
    const text = unseen(delta, seen.shell.attempt, seen.length);
    if (text === "") return [];
    const offset = seen.length;
    seen.length += codePointLength(text);
    if (text === delta.text) return [event];
    return ending(
      [this.#made({ case: "delta", value: { ...delta, offset, text } })],
      event.resumeToken,
    );
  }

  /** Not with the event's own token: whoever resumes from here needs the rest of the event. */
  #made(event: ConversationEvent["event"]): ConversationEvent {
    return create(ConversationEventSchema, { resumeToken: this.token, event });
  }

  #remember(message: Message): void {
    this.#seen.set(message.id, {
      shell: shellOf(message),
      length: codePointLength(message.content),
    });
    if (this.#seen.size <= MAX_REMEMBERED) return;
    for (const [id, { shell }] of this.#seen) {
      if (isFinal(shell)) {
        this.#seen.delete(id);
        return;
      }
    }
  }
}

/** Returns the pieces of an event, of which the last one carries its token. */
function ending(pieces: ConversationEvent[], token: string): ConversationEvent[] {
  const last = pieces.at(-1);
  if (last) last.resumeToken = token;
  return pieces;
}

/** Returns a message without its text, and without what changes whenever the text does. */
function shellOf(message: Message): Message {
  const shell = clone(MessageSchema, message);
  shell.content = "";
  delete shell.updateTime;
  delete shell.context;
  return shell;
}

/** Returns how the attempt of a message began: without text, without an end. */
function beginning(message: Message): Message {
  const begun = shellOf(message);
  begun.state = Message_State.GENERATING;
  begun.finishReason = "";
  delete begun.error;
  delete begun.usage;
  return begun;
}

function made({ id, attempt }: Message, offset: number, text: string): ConversationEvent_Delta {
  return create(ConversationEvent_DeltaSchema, { messageId: id, attempt, offset, text });
}
