import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import {
  ConversationSchema,
  Message_State,
  OutOfOrder,
  addHistory,
  applyEvent,
  emptyConversation,
} from "../src/index.ts";
import type { ConversationState } from "../src/index.ts";
import { delta, history, message, told } from "./history.ts";

/** Returns the ids of the messages that are held. */
function ids({ messages }: ConversationState): string[] {
  return messages.map(({ message: { id } }) => id);
}

/** Returns the state of a reply that is being written and has some text. */
function writing(text: string): ConversationState {
  const [accepted] = history([[]]);
  assert.ok(accepted);
  return applyEvent(applyEvent(emptyConversation, accepted), delta("2", 1, 0, text));
}

/** Returns an event that a message came at a time. */
function at(id: string, milliseconds: number, deleted = false) {
  const value = message({ id, createTime: timestampFromMs(milliseconds), deleted });
  return told("t", { case: "message", value });
}

test("a message replaces, a delta is appended", () => {
  const events = history([
    ["One ", "two 🙂"],
    ["Four", " five"],
  ]);
  const states = [emptyConversation];
  for (const event of events) states.push(applyEvent(states.at(-1) ?? emptyConversation, event));
  const texts = states.slice(1).map(({ messages }) => messages[1]?.text);
  assert.deepEqual(texts, ["", "One ", "One two 🙂", "", "Four", "Four five", "Four five"]);
  assert.equal(states.at(-1)?.messages[1]?.message.state, Message_State.COMPLETED);
  assert.equal(states.at(-1)?.resumeToken, "7");
  assert.deepEqual(emptyConversation.messages, []);
});

test("offsets count code points", () => {
  const state = writing("🙂🙂");
  assert.equal(state.messages[1]?.length, 2);
  assert.equal(applyEvent(state, delta("3", 1, 2, "é")).messages[1]?.text, "🙂🙂é");
});

test("a delta that overlaps is appended from where it is new", () => {
  const state = writing("🙂b");
  assert.equal(applyEvent(state, delta("3", 1, 1, "bc")).messages[1]?.text, "🙂bc");
  assert.equal(applyEvent(state, delta("3", 1, 0, "🙂")).messages, state.messages);
  assert.equal(applyEvent(state, delta("3", 0, 0, "older")).messages, state.messages);
});

test("a gap is an error", () => {
  assert.throws(() => applyEvent(writing("a"), delta("3", 1, 2, "c")), OutOfOrder);
  assert.throws(() => applyEvent(writing("a"), delta("3", 2, 0, "c")), OutOfOrder);
  assert.throws(() => applyEvent(emptyConversation, delta("3", 1, 0, "c")), OutOfOrder);
});

test("a finished reply gets no more text", () => {
  const state = history([["all"]]).reduce(applyEvent, emptyConversation);
  assert.equal(applyEvent(state, delta("9", 1, 3, "more")).messages, state.messages);
});

test("messages stand in the order in which they were said", () => {
  const state = [at("b", 2), at("d", 4), at("c", 3)].reduce(applyEvent, emptyConversation);
  assert.deepEqual(ids(state), ["b", "c", "d"]);
});

test("an old message that is not held stays out, until its page is asked for", () => {
  let state = [at("d", 4), at("b", 2)].reduce(applyEvent, emptyConversation);
  assert.deepEqual(ids(state), ["d"]);
  const changed = message({ id: "d", content: "older" });
  const gone = message({ id: "a", deleted: true });
  state = addHistory(state, [gone, message({ id: "b" }), message({ id: "c" }), changed]);
  assert.deepEqual(ids(state), ["b", "c", "d"]);
  assert.equal(state.messages[2]?.text, "");
});

test("a deleted message is taken away", () => {
  const state = [at("a", 1), at("b", 2), at("a", 1, true)].reduce(applyEvent, emptyConversation);
  assert.deepEqual(ids(state), ["b"]);
  assert.deepEqual(ids(applyEvent(state, at("z", 9, true))), ["b"]);
});

test("the conversation, its end, and that nothing happened", () => {
  const value = create(ConversationSchema, { title: "Numbers" });
  const named = applyEvent(emptyConversation, told("1", { case: "conversation", value }));
  assert.equal(named.conversation?.title, "Numbers");
  const heard = applyEvent(named, told("2", { case: "heartbeat", value: {} }));
  assert.deepEqual(heard, { ...named, resumeToken: "2" });
  assert.equal(applyEvent(heard, told("3", { case: "deleted", value: {} })).deleted, true);
});
