import assert from "node:assert/strict";
import { test } from "node:test";

import { LENGTH, Stretches } from "../src/conversation/stretches.ts";

interface One {
  readonly key: string;
}

function numbered(from: number, to: number): One[] {
  return Array.from({ length: to - from }, (_, at) => ({ key: String(from + at) }));
}

test("stretches hold all messages in their order, each a few, and know the one before", () => {
  const items = numbered(0, 47);
  const stretches = new Stretches<One>().split(items);
  assert.deepEqual(
    stretches.flatMap((one) => one.items),
    items,
  );
  for (const [at, one] of stretches.entries()) {
    assert.ok(one.items.length <= LENGTH);
    assert.equal(one.before, stretches[at - 1]?.items.at(-1));
  }
});

test("what comes before or after leaves the stretches that are there as they are", () => {
  const split = new Stretches<One>();
  const first = split.split(numbered(100, 123));
  const more = split.split(numbered(64, 150));
  const begins = more.map(({ key }) => key);
  for (const { key } of first) assert.ok(begins.includes(key));
  assert.deepEqual(
    more.filter(({ key }) => key === "100" || key === "110").map(({ items }) => items),
    first.slice(0, 2).map(({ items }) => items),
  );
});

test("a stretch that loses its first message goes on with the others", () => {
  const split = new Stretches<One>();
  const items = numbered(0, 30);
  split.split(items);
  const left = items.filter(({ key }) => key !== "10");
  assert.deepEqual(
    split.split(left).flatMap((one) => one.items),
    left,
  );
});
