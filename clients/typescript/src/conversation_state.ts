/**
 * The two rules by which events become text: a `message` replaces, a `delta` is appended.
 *
 *     let state = emptyConversation;
 *     for await (const event of client.watch(conversationId)) state = applyEvent(state, event);
 */

import type {
  ConversationEvent,
  ConversationEvent_Delta,
} from "./gen/conversation/v1/conversation_service_pb.ts";
import { Message_State } from "./gen/conversation/v1/resources_pb.ts";
import type { Conversation, Message } from "./gen/conversation/v1/resources_pb.ts";
import { OutOfOrder } from "./errors.ts";
import { codePointLength, withoutFirst } from "./text.ts";

/** A message, put together from the events so far. */
export interface HeldMessage {
  /** The message of the last `message` event; its `content` may lag behind `text`. */
  readonly message: Message;
  /** All text so far. */
  readonly text: string;
  /** How many code points the text has. */
  readonly length: number;
}

/** A conversation, put together from the events so far. Never changed: each event makes a new one. */
export interface ConversationState {
  /** Undefined until an event brought it. */
  readonly conversation: Conversation | undefined;
  /** The end of the conversation as far back as it is held, oldest first, without deleted ones. */
  readonly messages: readonly HeldMessage[];
  /** Whether the conversation is gone. */
  readonly deleted: boolean;
  /** Where to go on watching from; empty before the first event. */
  readonly resumeToken: string;
}

/** Nothing is known yet. */
export const emptyConversation: ConversationState = {
  conversation: undefined,
  messages: [],
  deleted: false,
  resumeToken: "",
};

/** Tells whether a message will get no more text. */
export function isFinal({ state }: Message): boolean {
  return (
    state === Message_State.COMPLETED ||
    state === Message_State.FAILED ||
    state === Message_State.CANCELLED
  );
}

/**
 * Returns what of a delta is new to someone who holds `length` code points of `attempt`: nothing
 * when none of it is. Throws OutOfOrder when text between the two is missing.
 */
export function unseen(delta: ConversationEvent_Delta, attempt: number, length: number): string {
  if (delta.attempt < attempt) return "";
  if (delta.attempt > attempt || delta.offset > length) {
    throw new OutOfOrder(
      `text is missing: a piece begins at ${delta.offset} of attempt ${delta.attempt}, ` +
        `held are ${length} of attempt ${attempt}`,
    );
  }
  return withoutFirst(delta.text, length - delta.offset);
}

/**
 * Returns the state after an event. A message that is older than all that is held, as one that
 * somebody rates, is left out: `addHistory` brings those that are wanted.
 *
 * Throws OutOfOrder when text before a delta is missing.
 */
export function applyEvent(state: ConversationState, event: ConversationEvent): ConversationState {
  const { messages } = state;
  const next = { ...state, resumeToken: event.resumeToken || state.resumeToken };
  switch (event.event.case) {
    case "accepted": {
      const { message, reply } = event.event.value;
      for (const one of [message, reply]) if (one) next.messages = replaced(next.messages, one);
      return next;
    }
    case "message":
      return { ...next, messages: replaced(messages, event.event.value) };
    case "delta":
      return { ...next, messages: appended(messages, event.event.value) };
    case "conversation":
      return { ...next, conversation: event.event.value };
    case "deleted":
      return { ...next, deleted: true };
    default:
      return next;
  }
}

/**
 * Returns the state with a page of the conversation's messages before all that is held; those that
 * are held already stay as they are, since events may have come after the page.
 */
export function addHistory(state: ConversationState, page: readonly Message[]): ConversationState {
  const known = new Set(state.messages.map(({ message }) => message.id));
  const older = page.filter(({ id, deleted }) => !deleted && !known.has(id)).map(held);
  return { ...state, messages: [...older, ...state.messages] };
}

function held(message: Message): HeldMessage {
  return { message, text: message.content, length: codePointLength(message.content) };
}

/** Returns the messages with one put in its place, or taken away when it is deleted. */
function replaced(messages: readonly HeldMessage[], message: Message): readonly HeldMessage[] {
  const index = messages.findLastIndex((one) => one.message.id === message.id);
  if (message.deleted) return index < 0 ? messages : messages.toSpliced(index, 1);
  if (index >= 0) return messages.with(index, held(message));
  const before = messages.findLastIndex((one) => isBefore(one.message, message));
  if (before < 0 && messages.length > 0) return messages;
  return messages.toSpliced(before + 1, 0, held(message));
}

/** Tells the order in which two messages were said. A prompt and its reply come at one time. */
function isBefore(one: Message, other: Message): boolean {
  const [first, second] = [one.createTime, other.createTime];
  const seconds = Number((first?.seconds ?? 0n) - (second?.seconds ?? 0n));
  const difference = seconds || (first?.nanos ?? 0) - (second?.nanos ?? 0);
  return difference < 0 || (difference === 0 && one.id < other.id);
}

function appended(
  messages: readonly HeldMessage[],
  delta: ConversationEvent_Delta,
): readonly HeldMessage[] {
  const index = messages.findLastIndex((one) => one.message.id === delta.messageId);
  const before = messages[index];
  if (before === undefined) {
    throw new OutOfOrder(`text came for ${delta.messageId}, a message not known`);
  }
  const { message, length } = before;
  const text = isFinal(message) ? "" : unseen(delta, message.attempt, length);
  if (text === "") return messages;
  return messages.with(index, {
    message,
    text: before.text + text,
    length: length + codePointLength(text),
  });
}
