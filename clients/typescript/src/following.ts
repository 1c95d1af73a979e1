/** Follows a stream over as many calls as it takes. */

import { Code } from "@connectrpc/connect";

import { ColloquyError, toColloquyError } from "./errors.ts";
import type { Resumption } from "./resumption.ts";
import type { Timing } from "./retry.ts";

/** Opens the next call of a stream; its answers hold an event. */
type Open<Event> = (signal: AbortSignal) => AsyncIterable<{ event?: Event | undefined }>;

/** How a stream is followed. */
export interface Following<Event> {
  readonly resumption: Resumption<Event>;
  readonly open: Open<Event>;
  readonly timing: Timing;
  /** How many seconds without anything make a server count as gone. */
  readonly silence: number;
  /** Ends the stream quietly. */
  readonly closing: AbortSignal;
}

/** Yields each event once. Throws ColloquyError when it is no use to go on. */
export async function* follow<Event>(how: Following<Event>): AsyncGenerator<Event, void, void> {
  const { resumption, timing, closing } = how;
  while (!closing.aborted) {
    let failure = new ColloquyError("the stream ended too early", Code.Unavailable);
    const call = new AbortController();
    const answers = how.open(AbortSignal.any([call.signal, closing]))[Symbol.asyncIterator]();
    try {
      for (;;) {
        const answer = await within(answers.next(), how);
        if (answer.done) break;
        if (!answer.value.event) continue;
        for (const piece of resumption.receive(answer.value.event)) yield piece;
        if (resumption.done) return;
      }
    } catch (thrown) {
      failure = toColloquyError(thrown);
    } finally {
      call.abort(); // also when the caller breaks off
    }
    // It is aborted while others wait.
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition
    if (closing.aborted) return;
    for (const last of resumption.disconnected(failure)) yield last;
    if (resumption.done) return;
    await timing.sleep(resumption.retry.backoff(failure), closing);
  }
}

/** Waits for the next answer of a call, until it is closed or the server said nothing for too long. */
async function within<T>(next: Promise<T>, how: Following<unknown>): Promise<T> {
  const remaining = how.resumption.retry.remaining ?? Infinity;
  const failure =
    remaining < how.silence
      ? new ColloquyError(
          "the reply did not finish in time; it goes on in the server",
          Code.DeadlineExceeded,
        )
      : new ColloquyError(
          `nothing was heard from the server for ${how.silence} s`,
          Code.Unavailable,
        );
  const enough = new AbortController();
  const late = new Promise<never>((_, reject) => {
    const timer = setTimeout(reject, Math.min(how.silence, remaining) * 1000, failure);
    const end = (): void => {
      reject(failure);
    };
    how.closing.addEventListener("abort", end, { signal: enough.signal });
    if (how.closing.aborted) end();
    enough.signal.addEventListener("abort", () => {
      clearTimeout(timer);
    });
  });
  try {
    return await Promise.race([next, late]);
  } finally {
    enough.abort();
  }
}
