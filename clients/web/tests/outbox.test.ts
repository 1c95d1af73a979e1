/** Messages on their way are said once, in their order, and never lost. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import {
  AttachmentSchema,
  Code,
  ColloquyError,
  ConversationEvent_AcceptedSchema,
  OnBusy,
} from "@colloquy/client";
import type { ConversationEvent_Accepted } from "@colloquy/client";

import { Outbox } from "../src/data/outbox.ts";
import type { Entry, Surroundings } from "../src/data/outbox.ts";
import { MemoryStorage } from "./storage.ts";

const accepted = create(ConversationEvent_AcceptedSchema);
const away = new ColloquyError("away", Code.Unavailable);

function entry(requestId: string, changes: Partial<Entry> = {}): Entry {
  return {
    requestId,
    conversationId: "c",
    content: `text of ${requestId}`,
    attachments: [],
    onBusy: OnBusy.UNSPECIFIED,
    time: 1,
    ...changes,
  };
}

/** Who can never be reached. */
const never = (): Promise<ConversationEvent_Accepted> => new Promise(() => undefined);

/** A page that sends by `send`; what it sent is in `sent`. */
function page(
  storage: Storage,
  send: (entry: Entry) => Promise<ConversationEvent_Accepted>,
  around: Partial<Surroundings> = {},
): { outbox: Outbox; sent: string[]; waits: number[] } {
  const sent: string[] = [];
  const waits: number[] = [];
  const outbox = new Outbox("user", {
    send: (one) => {
      sent.push(one.requestId);
      return send(one);
    },
    wait: (seconds) => {
      waits.push(seconds);
      return Promise.resolve();
    },
    tab: "one",
    openTabs: () => Promise.resolve(new Set(["one"])),
    storage,
    ...around,
  });
  return { outbox, sent, waits };
}

test("a message is kept before it is sent, and forgotten when it is accepted", async () => {
  const storage = new MemoryStorage();
  const { outbox } = page(storage, () => {
    assert.equal(storage.length, 1);
    return Promise.resolve(accepted);
  });
  assert.deepEqual(await outbox.add(entry("a")).outcome, { accepted });
  assert.equal(storage.length, 0);
  assert.deepEqual(outbox.of("c"), []);
});

test("a lost connection sends the same request again", async () => {
  let failures = 3;
  const { outbox, sent, waits } = page(new MemoryStorage(), () =>
    failures-- > 0 ? Promise.reject(away) : Promise.resolve(accepted),
  );
  const delivery = outbox.add(entry("a"));
  let changes = 0;
  delivery.onChange = () => changes++;
  await delivery.outcome;
  assert.deepEqual(sent, ["a", "a", "a", "a"]);
  assert.deepEqual(waits, [0.5, 1, 2]);
  assert.deepEqual([delivery.isWaiting, changes], [true, 1]);
});

test("a budget that is used up is told with when it starts anew, and is not waited for", async () => {
  const usedUp = new ColloquyError("It is used up.", Code.ResourceExhausted, {
    reason: "BUDGET_EXCEEDED",
    retryAfter: 3 * 86_400,
  });
  const storage = new MemoryStorage();
  const { outbox, sent, waits } = page(storage, () => Promise.reject(usedUp), { tab: "before" });
  const outcome = await outbox.add(entry("a")).outcome;
  assert.ok("refused" in outcome);
  assert.match(outcome.refused, /^It is used up\. In your time: \w+day, .* 20\d\d/);
  assert.deepEqual([sent, waits], [["a"], []]);
  const after = page(storage, never);
  await after.outbox.adopt();
  assert.deepEqual(await after.outbox.of("c")[0]?.outcome, { refused: outcome.refused });
});

test("a server that has too much to do says when to come back", async () => {
  const busy = new ColloquyError("busy", Code.ResourceExhausted, {
    reason: "OVERLOADED",
    retryAfter: 7,
  });
  let failures = 1;
  const { outbox, waits } = page(new MemoryStorage(), () =>
    failures-- > 0 ? Promise.reject(busy) : Promise.resolve(accepted),
  );
  await outbox.add(entry("a")).outcome;
  assert.deepEqual(waits, [7]);
});

test("messages of one conversation go one after another, others at once", async () => {
  const answers = new Map<string, () => void>();
  const { outbox, sent } = page(
    new MemoryStorage(),
    ({ requestId }) =>
      new Promise((resolve) => {
        answers.set(requestId, () => {
          resolve(accepted);
        });
      }),
  );
  const first = outbox.add(entry("a"));
  const second = outbox.add(entry("b"));
  outbox.add(entry("other", { conversationId: "d" }));
  await new Promise(setImmediate);
  assert.deepEqual(sent, ["a", "other"]);
  answers.get("a")?.();
  await first.outcome;
  await new Promise(setImmediate);
  assert.deepEqual(sent, ["a", "other", "b"]);
  answers.get("b")?.();
  await second.outcome;
});

test("what a page left behind the next one sends, as the same request", async () => {
  const storage = new MemoryStorage();
  const attachments = [create(AttachmentSchema, { id: "f", filename: "a.txt", byteSize: 3n })];
  const before = page(storage, never, { tab: "before" });
  before.outbox.add(entry("b", { time: 2 }));
  before.outbox.add(entry("a", { attachments, onBusy: OnBusy.INTERRUPT }));

  const seen: Entry[] = [];
  const { outbox } = page(storage, (one) => {
    seen.push(one);
    return Promise.resolve(accepted);
  });
  await outbox.adopt();
  const deliveries = outbox.of("c");
  assert.deepEqual(
    deliveries.map(({ isResumed }) => isResumed),
    [true, true],
  );
  await Promise.all(deliveries.map(({ outcome }) => outcome));
  assert.deepEqual(
    seen.map(({ requestId }) => requestId),
    ["a", "b"],
  );
  assert.equal(seen[0]?.onBusy, OnBusy.INTERRUPT);
  assert.deepEqual(seen[0].attachments, attachments);
  assert.equal(storage.length, 0);
});

test("what another tab is sending is left to it", async () => {
  const storage = new MemoryStorage();
  page(storage, never, { tab: "other" }).outbox.add(entry("a"));
  const open = new Set(["one", "other"]);
  const { outbox, sent } = page(storage, never, { openTabs: () => Promise.resolve(open) });
  await outbox.adopt();
  assert.deepEqual([outbox.of("c"), sent], [[], []]);
  open.delete("other");
  await outbox.adopt();
  await new Promise(setImmediate);
  assert.deepEqual(sent, ["a"]);
  await outbox.adopt();
  await new Promise(setImmediate);
  assert.deepEqual(sent, ["a"]);
});

test("where nobody knows which tabs are open, all that is left is sent", async () => {
  const storage = new MemoryStorage();
  page(storage, never, { tab: "before" }).outbox.add(entry("a"));
  const { outbox, sent } = page(storage, never, { openTabs: () => Promise.resolve(undefined) });
  await outbox.adopt();
  await new Promise(setImmediate);
  assert.deepEqual(sent, ["a"]);
});

test("a refusal is kept until the user has decided, also over a reload", async () => {
  const storage = new MemoryStorage();
  const refusal = new ColloquyError("The queue is full.", Code.ResourceExhausted, {
    reason: "QUEUE_FULL",
  });
  const { outbox } = page(storage, () => Promise.reject(refusal), { tab: "before" });
  assert.deepEqual(await outbox.add(entry("a")).outcome, {
    refused: "The queue is full.",
    error: refusal,
  });

  const after = page(storage, never);
  await after.outbox.adopt();
  const [delivery] = after.outbox.of("c");
  assert.equal(delivery?.entry.content, "text of a");
  assert.deepEqual(await delivery.outcome, { refused: "The queue is full." });
  assert.deepEqual(after.sent, []);
  after.outbox.discard("a");
  assert.deepEqual([after.outbox.of("c"), storage.length], [[], 0]);
});

test("an error inside the server is borne a few times", async () => {
  const { outbox, sent } = page(new MemoryStorage(), () =>
    Promise.reject(new ColloquyError("broken", Code.Internal)),
  );
  const outcome = await outbox.add(entry("a")).outcome;
  assert.ok("refused" in outcome);
  assert.equal(sent.length, 3);
});

test("a session that ended keeps what is not sent, for the next one", async () => {
  const storage = new MemoryStorage();
  const ended = new ColloquyError("signed out", Code.Unauthenticated);
  const { outbox, sent } = page(
    storage,
    () => {
      outbox.close();
      return Promise.reject(ended);
    },
    { tab: "before" },
  );
  outbox.add(entry("a"));
  outbox.add(entry("b"));
  await new Promise(setImmediate);
  assert.deepEqual([sent, storage.length], [["a"], 2]);
  const after = page(storage, () => Promise.resolve(accepted));
  await after.outbox.adopt();
  await Promise.all(after.outbox.of("c").map(({ outcome }) => outcome));
  assert.deepEqual([after.sent, storage.length], [["a", "b"], 0]);
});

test("who signs out leaves nothing, and another user's messages are not seen", async () => {
  const storage = new MemoryStorage();
  const { outbox } = page(storage, never, { tab: "before" });
  outbox.add(entry("a"));
  const other = new Outbox("other", {
    send: never,
    wait: never,
    tab: "two",
    openTabs: () => Promise.resolve(new Set()),
    storage,
  } as unknown as Surroundings);
  await other.adopt();
  assert.deepEqual(other.of("c"), []);
  outbox.clear();
  assert.equal(storage.length, 0);
});

test("a browser without room still sends", async () => {
  const storage = new MemoryStorage();
  storage.isFull = true;
  const { outbox } = page(storage, () => Promise.resolve(accepted));
  assert.deepEqual(await outbox.add(entry("a")).outcome, { accepted });
});
