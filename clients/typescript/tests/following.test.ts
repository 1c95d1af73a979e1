import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import {
  ColloquyError,
  ConversationsEventSchema,
  Events,
  applyEvent,
  emptyConversation,
} from "../src/index.ts";
import type { ConversationEvent } from "../src/index.ts";
import { follow } from "../src/following.ts";
import { IndexResumption, ReplyResumption, WatchResumption } from "../src/resumption.ts";
import type { Resumption } from "../src/resumption.ts";
import { Retry } from "../src/retry.ts";
import type { Timing } from "../src/retry.ts";
import { history, told, watched } from "./history.ts";

const ATTEMPTS = [
  ["One ", "two 🙂"],
  ["Four", " five", " six"],
];
const EVENTS = history(ATTEMPTS);

const GONE = new ConnectError("going away", Code.Unavailable);
const BREAKS: unknown[] = [
  GONE,
  new ConnectError("a proxy closed it", Code.Canceled),
  new ConnectError("RST_STREAM", Code.Internal),
  new TypeError("fetch failed"),
  undefined, // it ends too early, with OK
];

/** A clock that waits for nobody. */
function fakeTime(): Timing & { waits: number[] } {
  let now = 0;
  const waits: number[] = [];
  return {
    waits,
    clock: () => now,
    random: () => 0.5,
    sleep(seconds) {
      now += seconds;
      waits.push(seconds);
      return Promise.resolve();
    },
  };
}

/** Answers with events, then breaks. */
async function* answers<Event>(
  events: Event[],
  failure: unknown,
): AsyncGenerator<{ event: Event }, void, void> {
  for (const event of events) {
    await Promise.resolve();
    yield { event };
  }
  // As the transport does.
  // eslint-disable-next-line @typescript-eslint/only-throw-error
  if (failure !== undefined) throw failure;
}

/** Returns the events that follow from these calls, each what it tells and how it breaks. */
function following<Event>(
  resumption: Resumption<Event>,
  open: (signal: AbortSignal) => AsyncIterable<{ event: Event }>,
  {
    timing = fakeTime(),
    silence = 45,
    signal,
  }: { timing?: Timing; silence?: number; signal?: AbortSignal } = {},
): Events<Event> {
  return new Events((closing) => follow({ resumption, open, timing, silence, closing }), signal);
}

function retry(timing: Timing = fakeTime(), timeout?: number): Retry {
  return new Retry({ patience: 10, timeout }, timing);
}

async function all<Event>(events: AsyncIterable<Event>): Promise<Event[]> {
  const found: Event[] = [];
  for await (const event of events) found.push(event);
  return found;
}

/** Follows a reply over calls that each break after so many events. */
async function followed(
  breaks: [number, unknown][],
  isWhole: boolean,
): Promise<ConversationEvent[]> {
  const resumption = new ReplyResumption(retry());
  const left = [...breaks];
  return all(
    following(resumption, () => {
      const stream = watched(
        EVENTS,
        resumption.token ?? "0",
        EVENTS.length,
        isWhole && resumption.token !== null,
      );
      const [count, failure] = left.shift() ?? [Infinity, GONE];
      return answers(stream.slice(0, count), failure);
    }),
  );
}

function check(events: ConversationEvent[]): void {
  const kinds = events.map(({ event }) => event.case);
  assert.deepEqual([kinds[0], kinds.at(-1)], ["accepted", "message"]);
  assert.equal(kinds.filter((kind) => kind === "accepted").length, 1);
  const state = events.reduce(applyEvent, emptyConversation);
  assert.equal(state.messages[1]?.text, "Four five six");
  const joined = events.map(({ event }) =>
    event.case === "delta" && event.value.attempt === 2 ? event.value.text : "",
  );
  assert.equal(joined.join(""), "Four five six");
}

test("a reply is followed through two breaks anywhere, of every kind", async () => {
  for (let first = 0; first < EVENTS.length; first++) {
    for (let second = 0; second < EVENTS.length; second++) {
      const kind = BREAKS[(first + second) % BREAKS.length];
      // Before `accepted` an error inside the server is no passing one.
      const breaks: [number, unknown][] = [
        [first, first === 0 ? GONE : kind],
        [second, first === 0 && second === 0 ? GONE : kind],
      ];
      check(await followed(breaks, false));
      check(await followed(breaks, true));
    }
  }
});

test("a break after each event", async () => {
  check(
    await followed(
      EVENTS.map(() => [1, GONE]),
      false,
    ),
  );
});

test("a refusal is thrown at once", async () => {
  const refusal = new ConnectError("no such conversation", Code.NotFound);
  const resumption = new ReplyResumption(retry());
  await assert.rejects(
    all(following(resumption, () => answers<ConversationEvent>([], refusal))),
    (error) => error instanceof ColloquyError && error.code === Code.NotFound,
  );
});

test("a server that cannot be reached is borne for some time, and without end once it accepted", async () => {
  let calls = 0;
  const timing = fakeTime();
  const resumption = new ReplyResumption(retry(timing));
  const unreachable = following(resumption, () => answers<ConversationEvent>([], GONE), { timing });
  await assert.rejects(all(unreachable), /going away/);
  assert.ok(timing.waits.length > 3);
  assert.ok(timing.waits.reduce((sum, wait) => sum + wait, 0) <= 10);

  const patient = new ReplyResumption(retry());
  const events = following(patient, () => {
    calls++;
    if (calls === 1) return answers(EVENTS.slice(0, 1), GONE);
    return calls < 1000 ? answers([], GONE) : answers(EVENTS.slice(1), undefined);
  });
  check(await all(events));
});

test("a conversation that was there and is no more was deleted", async () => {
  const refusal = new ConnectError("no such conversation", Code.NotFound);
  const resumption = new WatchResumption(retry());
  let calls = 0;
  const events = await all(
    following(resumption, () => answers(EVENTS.slice(0, 1), calls++ === 0 ? GONE : refusal)),
  );
  assert.equal(events.at(-1)?.event.case, "deleted");
});

test("a server that says nothing is taken for gone", async () => {
  const resumption = new ReplyResumption(retry());
  let aborted = 0;
  const events = following(
    resumption,
    (signal) => {
      if (resumption.token !== null) return answers(EVENTS.slice(1), undefined);
      return (async function* () {
        signal.addEventListener("abort", () => aborted++);
        yield* answers(EVENTS.slice(0, 1), undefined);
        await new Promise(() => undefined);
      })();
    },
    { silence: 0.05 },
  );
  check(await all(events));
  assert.ok(aborted > 0);
});

test("a reply is followed for as long as the caller says", async () => {
  const resumption = new ReplyResumption(retry(fakeTime(), 0.01));
  const events = following(resumption, () => never());
  await assert.rejects(all(events), /did not finish in time/);
});

/** Says nothing, ever. */
async function* never(): AsyncGenerator<{ event: ConversationEvent }, void, void> {
  await new Promise(() => undefined);
  yield* answers(EVENTS, undefined);
}

/** Says one thing, then nothing until it is aborted. */
async function* once(
  signal: AbortSignal,
): AsyncGenerator<{ event: ConversationEvent }, void, void> {
  yield* answers(EVENTS.slice(0, 1), undefined);
  await new Promise((_, reject) => {
    signal.addEventListener("abort", () => {
      reject(new ConnectError("aborted", Code.Canceled));
    });
  });
}

test("closing ends the loop, an abort throws its reason", async () => {
  const closed = following(new WatchResumption(retry()), once);
  for await (const event of closed) {
    assert.equal(event, EVENTS[0]);
    closed.close();
  }
  const controller = new AbortController();
  const aborted = following(new WatchResumption(retry()), once, { signal: controller.signal });
  await aborted.next();
  controller.abort(new Error("enough"));
  await assert.rejects(aborted.next(), /enough/);
});

test("a loop that is left ends the call", async () => {
  let left: AbortSignal | undefined;
  const events = following(new WatchResumption(retry()), (signal) => {
    left = signal;
    return once(signal);
  });
  for await (const event of events) {
    assert.equal(event, EVENTS[0]);
    break;
  }
  assert.ok(left?.aborted);
});

test("the list goes on from its token, and begins anew when it had none", async () => {
  const changed = (resumeToken: string) =>
    create(ConversationsEventSchema, { resumeToken, event: { case: "removed", value: "c" } });
  const quiet = create(ConversationsEventSchema, {
    resumeToken: "2",
    event: { case: "heartbeat", value: {} },
  });
  const resumption = new IndexResumption(retry(), "");
  const tokens: string[] = [];
  const streams = [[changed("")], [changed("1"), quiet], [changed("3")]];
  const events = following(resumption, () => {
    tokens.push(resumption.token);
    return answers(streams.shift() ?? [], GONE);
  });
  const heard: (string | undefined)[] = [];
  for await (const { event } of events) {
    heard.push(event.case);
    if (heard.length === 4) break;
  }
  assert.deepEqual(tokens, ["", "", "2"]);
  assert.deepEqual(heard, ["removed", "reset", "removed", "removed"]);
});

test("other messages of the conversation are not the reply's", async () => {
  const [accepted, ...rest] = EVENTS;
  assert.ok(accepted);
  const title = told("1", { case: "conversation", value: { title: "Numbers" } });
  const resumption = new ReplyResumption(retry());
  check(await all(following(resumption, () => answers([accepted, title, ...rest], GONE))));
});
