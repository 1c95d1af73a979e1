/** All tabs share a stream for each conversation, and none misses or outlives what it asked for. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ColloquyError, ConversationEventSchema } from "@colloquy/client";

import { Hub } from "../src/worker/hub.ts";
import type { Server, Tab } from "../src/worker/hub.ts";
import type { FromHub, HubEvent } from "../src/worker/protocol.ts";

/** A stream that the hub has opened. */
class Stream {
  readonly target: string;
  readonly token: string;
  readonly signal: AbortSignal;
  #wake: () => void = () => undefined;
  readonly #events: HubEvent[] = [];
  #end: ColloquyError | true | undefined;

  constructor(target: string, token: string, signal: AbortSignal) {
    this.target = target;
    this.token = token;
    this.signal = signal;
    signal.addEventListener("abort", () => {
      this.end();
    });
  }

  say(resumeToken: string): void {
    this.#events.push(create(ConversationEventSchema, { resumeToken }));
    this.#wake();
  }

  end(failure?: ColloquyError): void {
    this.#end = failure ?? true;
    this.#wake();
  }

  async *events(): AsyncGenerator<HubEvent> {
    for (;;) {
      for (const event of this.#events.splice(0)) yield event;
      if (this.#end === true) return;
      if (this.#end !== undefined) throw this.#end;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

class FakeServer implements Server {
  readonly streams: Stream[] = [];
  readonly read: string[] = [];

  watch(target: string, token: string, signal: AbortSignal): AsyncIterable<HubEvent> {
    const stream = new Stream(target, token, signal);
    this.streams.push(stream);
    return stream.events();
  }

  markRead(conversationId: string, messageId: string): Promise<void> {
    this.read.push(`${conversationId} ${messageId}`);
    return Promise.resolve();
  }

  /** The targets that are watched now. */
  get watched(): string {
    const open = this.streams.filter(({ signal }) => !signal.aborted);
    return open
      .map(({ target }) => target)
      .sort()
      .join(" ");
  }
}

/** What a tab was told, without whether the server is heard. */
type Told = Exclude<FromHub, { type: "status" }>;

function connect(hub: Hub): { tab: Tab; told: Told[] } {
  const told: Told[] = [];
  const tab = hub.connect((message) => {
    if (message.type !== "status") told.push(message);
  });
  return { tab, told };
}

/** Lets everything happen that is due. */
const settled = (): Promise<void> => new Promise(setImmediate);

function open(tab: Tab, subscription: number, target: string, token = "t"): void {
  tab.handle({ type: "join", subscription, target });
  tab.handle({ type: "start", subscription, token });
}

test("two tabs share one stream, and each hears all of it", async () => {
  const server = new FakeServer();
  const hub = new Hub(server);
  const [one, two] = [connect(hub), connect(hub)];
  open(one.tab, 1, "c", "t0");
  two.tab.handle({ type: "join", subscription: 5, target: "c" });
  assert.deepEqual(two.told, [{ type: "joined", subscription: 5, running: true }]);
  server.streams[0]?.say("t1");
  await settled();
  assert.equal(server.streams.length, 1);
  assert.equal(server.streams[0]?.token, "t0");
  assert.deepEqual(
    [one.told.at(-1)?.type, two.told.at(-1)?.type, two.told.at(-1)?.subscription],
    ["event", "event", 5],
  );
});

test("of two tabs that begin at once the second one is told to list again", async () => {
  const server = new FakeServer();
  const hub = new Hub(server);
  const [one, two] = [connect(hub), connect(hub)];
  one.tab.handle({ type: "join", subscription: 1, target: "c" });
  two.tab.handle({ type: "join", subscription: 1, target: "c" });
  two.tab.handle({ type: "start", subscription: 1, token: "later" });
  one.tab.handle({ type: "start", subscription: 1, token: "earlier" });
  await settled();
  assert.deepEqual(two.told.at(-1), { type: "started", subscription: 1, first: true });
  assert.deepEqual(one.told.at(-1), { type: "started", subscription: 1, first: false });
  assert.deepEqual(
    server.streams.map(({ token }) => token),
    ["later"],
  );
});

test("a stream ends with the last tab that wants it", async () => {
  const server = new FakeServer();
  const hub = new Hub(server);
  const [one, two] = [connect(hub), connect(hub)];
  open(one.tab, 1, "c");
  open(two.tab, 1, "c");
  one.tab.handle({ type: "leave", subscription: 1 });
  assert.equal(server.watched, "c");
  two.tab.close();
  assert.equal(server.watched, "");
  await settled();
  assert.ok(two.told.every(({ type }) => type !== "ended"));
});

test("few streams run at a time: those that are seen, and the others go on from their tokens", async () => {
  const server = new FakeServer();
  const hub = new Hub(server);
  const tabs = ["a", "b", "c", "d"].map((target) => {
    const { tab } = connect(hub);
    open(tab, 1, target);
    return tab;
  });
  open(tabs[0] as Tab, 2, "");
  for (const tab of tabs.slice(0, 3)) tab.handle({ type: "visible", visible: false });
  await settled();
  assert.equal(server.watched, " b c d");

  server.streams.find(({ target }) => target === "b")?.say("t1");
  await settled();
  tabs[0]?.handle({ type: "visible", visible: true });
  assert.equal(server.watched, " a c d");
  tabs[1]?.handle({ type: "visible", visible: true });
  tabs[3]?.handle({ type: "visible", visible: false });
  assert.equal(server.watched, " a b d");
  assert.equal(server.streams.findLast(({ target }) => target === "b")?.token, "t1");
});

test("when more are seen than may run, each has its turn", () => {
  mock.timers.enable({ apis: ["setInterval"] });
  try {
    const server = new FakeServer();
    const hub = new Hub(server);
    const targets = ["a", "b", "c", "d", "e"];
    for (const target of targets) open(connect(hub).tab, 1, target);
    const seen = new Set<string>();
    for (let turn = 0; turn < targets.length; turn++) {
      for (const target of server.watched.split(" ")) seen.add(target);
      mock.timers.tick(3000);
    }
    assert.deepEqual([...seen].sort(), targets);
    assert.equal(server.watched.split(" ").length, 3);
  } finally {
    mock.timers.reset();
  }
});

test("after a sleep every stream is opened anew from where it was", async () => {
  const server = new FakeServer();
  const hub = new Hub(server);
  const { tab, told } = connect(hub);
  open(tab, 1, "c", "t0");
  server.streams[0]?.say("t1");
  await settled();
  tab.handle({ type: "wake" });
  assert.deepEqual(
    server.streams.map(({ token, signal }) => [token, signal.aborted]),
    [
      ["t0", true],
      ["t1", false],
    ],
  );
  await settled();
  assert.ok(told.every(({ type }) => type !== "ended"));
});

test("what is final is told, what may pass is tried again", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const server = new FakeServer();
    const hub = new Hub(server);
    const { tab, told } = connect(hub);
    open(tab, 1, "gone");
    open(tab, 2, "broken");
    const [gone, broken] = server.streams;
    gone?.end(new ColloquyError("no", Code.NotFound, { reason: "CONVERSATION_NOT_FOUND" }));
    broken?.end(new ColloquyError("oops", Code.Internal));
    await settled();
    const ended = told.filter(({ type }) => type === "ended");
    const failure = { message: "no", code: Code.NotFound, reason: "CONVERSATION_NOT_FOUND" };
    assert.deepEqual(ended, [{ type: "ended", subscription: 1, failure }]);
    mock.timers.tick(5000);
    await settled();
    assert.equal(server.streams.length, 3);
    assert.equal(server.watched.split(" ").at(-1), "gone");
  } finally {
    mock.timers.reset();
  }
});

test("what several tabs have read is told once", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const server = new FakeServer();
    const hub = new Hub(server);
    const [one, two] = [connect(hub), connect(hub)];
    one.tab.handle({ type: "read", conversationId: "c", messageId: "m1" });
    two.tab.handle({ type: "read", conversationId: "c", messageId: "m2" });
    one.tab.handle({ type: "read", conversationId: "d", messageId: "m3" });
    assert.deepEqual(server.read, []);
    mock.timers.tick(500);
    assert.deepEqual(server.read, ["c m2", "d m3"]);
  } finally {
    mock.timers.reset();
  }
});

test("tabs are told when the server is not heard, and when it is again", () => {
  const hub = new Hub(new FakeServer());
  const heard: boolean[] = [];
  const tell = (message: FromHub): void => {
    if (message.type === "status") heard.push(message.online);
  };
  hub.connect(tell);
  hub.noteConnection(true);
  hub.noteConnection(false);
  hub.noteConnection(false);
  hub.connect(tell);
  hub.noteConnection(true);
  assert.deepEqual(heard, [true, false, false, true, true]);
});
