/** Prompts stand in their order, each with the latest reply after it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Message_Role, MessageSchema } from "@colloquy/client";
import type { Message } from "@colloquy/client";

import { Timeline } from "../src/data/timeline.ts";

interface Held {
  message: Message;
}

function held(id: string, seconds: number, replyTo = "", superseded = false): Held {
  const role = replyTo === "" ? Message_Role.USER : Message_Role.ASSISTANT;
  const createTime = { seconds: BigInt(seconds), nanos: 0 };
  return { message: create(MessageSchema, { id, role, replyTo, superseded, createTime }) };
}

/** What is shown: an id, with the ids of its older versions. */
function shown(timeline: Timeline<Held>): string {
  return timeline
    .rows()
    .map(({ item, versions }) => [item, ...versions].map(({ message }) => message.id).join("<"))
    .join(" ");
}

test("a reply stands after its prompt, however late it came", () => {
  const timeline = new Timeline<Held>();
  timeline.add(held("p1", 1));
  timeline.add(held("p2", 2));
  timeline.add(held("r1", 1, "p1"));
  timeline.add(held("r2", 2, "p2"));
  assert.equal(shown(timeline), "p1 r1 p2 r2");
});

test("what comes late is put by its time, not at the end", () => {
  const timeline = new Timeline<Held>();
  for (const one of [held("a", 1), held("c", 3), held("b", 2), held("b2", 2)]) timeline.add(one);
  assert.equal(shown(timeline), "a b b2 c");
});

test("older replies are kept with the one that took their place", () => {
  const timeline = new Timeline<Held>();
  timeline.add(held("p1", 1));
  timeline.add(held("r1", 1, "p1", true));
  timeline.add(held("p2", 2));
  timeline.add(held("r2", 3, "p1", true));
  timeline.add(held("r3", 4, "p1"));
  assert.equal(shown(timeline), "p1 r3<r1<r2 p2");
});

test("a reply whose prompt is on a page before stands alone until that comes", () => {
  const timeline = new Timeline<Held>();
  timeline.prepend([held("r1", 1, "p1", true), held("p2", 2), held("r1b", 3, "p1")]);
  assert.equal(shown(timeline), "r1b<r1 p2");
  timeline.prepend([held("p0", 0), held("p1", 1)]);
  assert.equal(shown(timeline), "p0 p1 r1b<r1 p2");
});

test("nothing is held twice", () => {
  const timeline = new Timeline<Held>();
  timeline.prepend([held("a", 1), held("b", 2)]);
  timeline.add(held("b", 2));
  timeline.prepend([held("z", 0), held("a", 1)]);
  assert.equal(shown(timeline), "z a b");
  timeline.remove("a");
  timeline.remove("a");
  assert.equal(shown(timeline), "z b");
});

test("it is known what comes before all that is held", () => {
  const timeline = new Timeline<Held>();
  assert.equal(timeline.isOlder(held("a", 1).message), false);
  timeline.add(held("b", 2));
  assert.equal(timeline.isOlder(held("a", 1).message), true);
  assert.equal(timeline.isOlder(held("c", 2).message), false);
});
