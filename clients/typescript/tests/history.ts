/** How a reply came to be, told as the server tells it: made-up streams for tests. */

import assert from "node:assert/strict";

import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import {
  ConversationEventSchema,
  MessageSchema,
  Message_Role,
  Message_State,
  applyEvent,
  codePointLength,
  emptyConversation,
} from "../src/index.ts";
import type { ConversationEvent, Message } from "../src/index.ts";

export const prompt: Message = message({ id: "1", role: Message_Role.USER, content: "Count" });

/** Returns a message of a conversation, the reply unless it says otherwise. */
export function message(fields: MessageInitShape<typeof MessageSchema>): Message {
  return create(MessageSchema, {
    id: "2",
    conversationId: "c",
    role: Message_Role.ASSISTANT,
    state: Message_State.COMPLETED,
    createTime: timestampFromMs(1),
    ...fields,
  });
}

/** Returns an event. */
export function told(
  resumeToken: string,
  event: MessageInitShape<typeof ConversationEventSchema>["event"] & object,
): ConversationEvent {
  return create(ConversationEventSchema, { resumeToken, event });
}

/** Returns a delta of the reply. */
export function delta(
  token: string,
  attempt: number,
  offset: number,
  text: string,
): ConversationEvent {
  return told(token, { case: "delta", value: { messageId: "2", attempt, offset, text } });
}

/**
 * Returns all that is told of a reply whose attempts come in these pieces: the token of each event
 * is how many there are up to it.
 */
export function history(attempts: string[][]): ConversationEvent[] {
  const events: ConversationEvent[] = [];
  const add = (event: ConversationEvent): void => {
    event.resumeToken = String(events.length + 1);
    events.push(event);
  };
  for (const [index, pieces] of attempts.entries()) {
    const reply = message({ state: Message_State.GENERATING, attempt: index + 1 });
    if (index === 0) add(told("", { case: "accepted", value: { message: prompt, reply } }));
    else add(told("", { case: "message", value: reply }));
    let text = "";
    for (const piece of pieces) {
      add(delta("", index + 1, codePointLength(text), piece));
      text += piece;
    }
    if (index === attempts.length - 1) {
      add(told("", { case: "message", value: message({ attempt: index + 1, content: text }) }));
    }
  }
  return events;
}

/** Returns the reply as it stands after so many events. */
export function replyAfter(events: ConversationEvent[], count: number): Message {
  const state = events.slice(0, count).reduce(applyEvent, emptyConversation);
  const held = state.messages.at(-1);
  assert.ok(held);
  return message({ ...held.message, content: held.text });
}

/**
 * Returns what a watcher with a token is told when `now` events have happened: each event, or the
 * reply as it stands and then what comes.
 */
export function watched(
  events: ConversationEvent[],
  token: string,
  now: number,
  isWhole: boolean,
): ConversationEvent[] {
  const from = Number(token);
  if (!isWhole || now <= from) return events.slice(from);
  const whole = told(String(now), { case: "message", value: replyAfter(events, now) });
  return [whole, ...events.slice(now)];
}

/** Returns numbers from 0 up to 1 that look random and are the same every time. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
