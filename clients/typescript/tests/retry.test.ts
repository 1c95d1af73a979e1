import assert from "node:assert/strict";
import { test } from "node:test";

import { Code } from "@connectrpc/connect";

import { ColloquyError, OutOfOrder } from "../src/index.ts";
import { Retry, realTime } from "../src/retry.ts";

const AWAY = new ColloquyError("away", Code.Unavailable);

/** A clock that stands still unless it is told, and the longest backoffs. */
class Clock {
  now = 0;
  clock = (): number => this.now;
  random = (): number => 1;
  sleep = (): Promise<void> => Promise.resolve();
}

function retry(clock: Clock, timeout?: number): Retry {
  return new Retry({ patience: 10, timeout }, clock);
}

/** Returns how long is waited after each of so many failures in a row. */
function waits(tried: Retry, error: ColloquyError, count: number): number[] {
  return Array.from({ length: count }, () => tried.backoff(error));
}

test("backoffs double up to a limit, and begin anew when something came of it", () => {
  const tried = retry(new Clock());
  assert.deepEqual(waits(tried, AWAY, 8), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]);
  tried.reset();
  assert.equal(tried.backoff(AWAY), 0.1);
});

test("failures in a row are borne for some seconds, or without end", () => {
  const clock = new Clock();
  const tried = retry(clock);
  tried.backoff(AWAY);
  clock.now = 9.9;
  assert.throws(() => tried.backoff(AWAY), AWAY);
  tried.reset();
  assert.equal(tried.backoff(AWAY), 0.1);
  tried.persist();
  clock.now = 10_000;
  assert.equal(tried.backoff(AWAY), 0.2);
});

test("the caller's time ends all of it", () => {
  const clock = new Clock();
  const tried = retry(clock, 5);
  tried.persist();
  assert.equal(tried.remaining, 5);
  clock.now = 4.95;
  assert.throws(
    () => tried.backoff(AWAY),
    (error) => error instanceof ColloquyError && error.code === Code.DeadlineExceeded,
  );
  clock.now = 6;
  assert.equal(tried.remaining, 0);
  assert.equal(retry(clock).remaining, undefined);
});

test("an error inside the server is borne a few times, once something was accepted", () => {
  for (const error of [new ColloquyError("a bug", Code.Internal), new OutOfOrder("a gap")]) {
    assert.throws(() => retry(new Clock()).backoff(error), error);
    const tried = retry(new Clock());
    tried.persist();
    waits(tried, error, 5);
    assert.throws(() => tried.backoff(error), error);
    tried.reset();
    waits(tried, error, 5);
  }
});

test("a limit is waited for when it says how long, a refusal never", () => {
  const limit = new ColloquyError("slower", Code.ResourceExhausted, { retryAfter: 3 });
  assert.equal(retry(new Clock()).backoff(limit), 3);
  const full = new ColloquyError("full", Code.ResourceExhausted);
  assert.throws(() => retry(new Clock()).backoff(full), full);
  const refusal = new ColloquyError("no", Code.PermissionDenied);
  const tried = retry(new Clock());
  tried.persist();
  assert.throws(() => tried.backoff(refusal), refusal);
});

test("a wait ends when it is no use any more, or the network is back", async () => {
  const controller = new AbortController();
  const aborted = realTime.sleep(1e6, controller.signal);
  controller.abort();
  await aborted;
  await realTime.sleep(1e6, controller.signal);

  // As a browser's window has them.
  const network = new EventTarget();
  const listening = {
    addEventListener: network.addEventListener.bind(network),
    removeEventListener: network.removeEventListener.bind(network),
  };
  Object.assign(globalThis, listening);
  try {
    const offline = realTime.sleep(1e6, new AbortController().signal);
    network.dispatchEvent(new Event("online"));
    await offline;
  } finally {
    for (const name of Object.keys(listening)) Reflect.deleteProperty(globalThis, name);
  }
});
