import assert from "node:assert/strict";
import { test } from "node:test";

import { OutOfOrder, applyEvent, emptyConversation, isFinal } from "../src/index.ts";
import type { ConversationEvent } from "../src/index.ts";
import { Deduplicator } from "../src/deduplication.ts";
import { delta, history, message, prompt, replyAfter, seeded, told, watched } from "./history.ts";

const LETTERS = ["a", "é", "€", "🙂", "\n"];

/** Returns the attempts of a made-up reply. */
function madeUp(random: () => number): string[][] {
  const some = <T>(make: () => T): T[] =>
    Array.from({ length: 1 + Math.floor(random() * 4) }, make);
  const letter = (): string => LETTERS[Math.floor(random() * LETTERS.length)] ?? "";
  return some(() => some(() => some(letter).join("")));
}

/** Checks that each piece came once and in order, and that they make up the whole reply. */
function check(pieces: ConversationEvent[], whole: string): void {
  assert.equal(pieces.filter(({ event }) => event.case === "accepted").length, 1);
  let joined = "";
  let finals = 0;
  for (const { event } of pieces) {
    if (event.case === "accepted") assert.equal(event.value.reply?.content, "");
    if (event.case === "message" && isFinal(event.value)) finals++;
    else if (event.case === "message") joined = "";
    if (event.case !== "delta") continue;
    assert.equal(event.value.offset, [...joined].length);
    joined += event.value.text;
  }
  assert.equal(finals, 1);
  assert.equal(joined, whole);
  assert.equal(pieces.reduce(applyEvent, emptyConversation).messages[1]?.text, whole);
}

test("each piece comes once however the streams break", () => {
  for (let seed = 0; seed < 500; seed++) {
    const random = seeded(seed);
    const upTo = (least: number, most: number): number =>
      least + Math.floor(random() * (most - least + 1));
    const attempts = madeUp(random);
    const events = history(attempts);
    const deduplicator = new Deduplicator();
    // A repeated request attaches to the reply as it stands.
    const attached = upTo(1, events.length - 1);
    const reply = replyAfter(events, attached);
    const accepted = { case: "accepted", value: { message: prompt, reply } } as const;
    const pieces = deduplicator.apply(told(String(attached), accepted));
    while (!pieces.some(({ event }) => event.case === "message" && isFinal(event.value))) {
      const now = upTo(Number(deduplicator.token), events.length);
      const stream = watched(events, deduplicator.token, now, random() < 0.5);
      for (const event of stream.slice(0, upTo(1, stream.length))) {
        pieces.push(...deduplicator.apply(event));
      }
    }
    check(pieces, (attempts.at(-1) ?? []).join(""));
  }
});

test("whoever resumes from any piece is told the rest", () => {
  for (let seed = 0; seed < 200; seed++) {
    const random = seeded(seed);
    const attempts = madeUp(random);
    const events = history(attempts);
    const now = 1 + Math.floor(random() * events.length);
    const [first] = events;
    assert.ok(first);
    const pieces = [first, ...watched(events, "1", now, true)];
    const deduplicator = new Deduplicator();
    const heard = pieces.flatMap((event) => deduplicator.apply(event));
    for (let kept = 1; kept <= heard.length; kept++) {
      const before = heard.slice(0, kept).reduce(applyEvent, emptyConversation);
      const rest = watched(events, before.resumeToken, events.length, true);
      const state = rest.reduce(applyEvent, before);
      assert.equal(state.messages[1]?.text, (attempts.at(-1) ?? []).join(""));
    }
  }
});

test("what only repeats itself is left out", () => {
  const deduplicator = new Deduplicator();
  const events = history([["all"]]);
  for (const event of events) deduplicator.apply(event);
  for (const event of events.slice(1)) assert.deepEqual(deduplicator.apply(event), []);
  assert.deepEqual(deduplicator.apply(told("9", { case: "heartbeat", value: {} })), []);
  assert.equal(deduplicator.token, "9");
});

test("a repeated request that finds its reply finished is told all of it", () => {
  const reply = message({ attempt: 1, content: "all 🙂" });
  const accepted = { case: "accepted", value: { message: prompt, reply } } as const;
  check(new Deduplicator().apply(told("9", accepted)), "all 🙂");
});

test("a change that is no text is told", () => {
  const deduplicator = new Deduplicator();
  for (const event of history([["all"]])) deduplicator.apply(event);
  const rated = message({ attempt: 1, content: "all", rating: 1 });
  const event = told("9", { case: "message", value: rated });
  assert.deepEqual(deduplicator.apply(event), [event]);
});

test("a delta of a message that nobody told of breaks the call, unless it was told before", () => {
  assert.throws(() => new Deduplicator().apply(delta("1", 1, 4, "x")), OutOfOrder);
  assert.equal(new Deduplicator("0").apply(delta("1", 1, 4, "x")).length, 1);
});
