/** When to try again: the same rules for calls and for streams, without a clock of its own. */

import { Code } from "@connectrpc/connect";

import { ColloquyError, OutOfOrder } from "./errors.ts";

// Seconds. The first backoff is short, because a server that restarts or a replica that takes over
// is mostly there at once; the longest bounds how late a client notices that the server is back.
const FIRST_BACKOFF = 0.1;
const MAX_BACKOFF = 5;
/** An error inside the server may be a passing one. One that comes so many times in a row is not. */
const MAX_SERVER_ERRORS = 5;

/** What the waiting depends on; tests give their own. */
export interface Timing {
  /** Seconds that only grow. */
  clock(): number;
  /** From 0 up to 1. */
  random(): number;
  /** Waits so many seconds, or until there may be reason to try sooner. */
  sleep(seconds: number, signal: AbortSignal): Promise<void>;
}

/** The time of this machine. */
export const realTime: Timing = {
  clock: () => performance.now() / 1000,
  random: Math.random,
  sleep,
};

/** Waits; a browser that is on a network again, and a signal, end it at once. */
function sleep(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const target = "addEventListener" in globalThis ? globalThis : undefined;
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      target?.removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener("abort", end);
    target?.addEventListener("online", end);
    if (signal.aborted) end();
  });
}

/** What a caller bears. */
export interface Limits {
  /** How many seconds of failures in a row are borne when nothing was accepted. */
  readonly patience: number;
  /** How many seconds all of it may take; undefined for any time. */
  readonly timeout?: number | undefined;
}

/** Decides after each failure how long to wait, or that it is no use. */
export class Retry {
  readonly #patience: number;
  readonly #timing: Timing;
  readonly #deadline: number | undefined;
  #isPersistent = false;
  #failures = 0;
  #serverErrors = 0;
  #failingSince: number | undefined;

  /** Begins now. */
  constructor(limits: Limits, timing: Timing) {
    this.#patience = limits.patience;
    this.#timing = timing;
    if (limits.timeout !== undefined) this.#deadline = timing.clock() + limits.timeout;
  }

  /** Seconds left of the timeout, never negative; undefined without one. */
  get remaining(): number | undefined {
    if (this.#deadline === undefined) return undefined;
    return Math.max(0, this.#deadline - this.#timing.clock());
  }

  /** From now on bears any number of seconds, and a few errors inside the server. */
  persist(): void {
    this.#isPersistent = true;
  }

  /** Something came of it: the next failure is the first again. */
  reset(): void {
    this.#failures = this.#serverErrors = 0;
    this.#failingSince = undefined;
  }

  /** Returns the seconds to wait before the next try. Throws `error` when it is no use. */
  backoff(error: ColloquyError): number {
    if (!this.#mayPass(error)) throw error;
    const now = this.#timing.clock();
    this.#failingSince ??= now;
    // Full jitter: clients that lost the same server do not come back in step.
    const longest = Math.min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** this.#failures);
    const wait = Math.max(this.#timing.random() * longest, error.retryAfter ?? 0);
    this.#failures++;
    if (!this.#isPersistent && now + wait > this.#failingSince + this.#patience) throw error;
    if (this.#deadline !== undefined && now + wait > this.#deadline) {
      const message = `no answer in time; the last error: ${error.message}`;
      throw new ColloquyError(message, Code.DeadlineExceeded, { cause: error });
    }
    return wait;
  }

  #mayPass(error: ColloquyError): boolean {
    if (error instanceof OutOfOrder || isServerError(error)) {
      this.#serverErrors++;
      return this.#isPersistent && this.#serverErrors <= MAX_SERVER_ERRORS;
    }
    if (error.code === Code.ResourceExhausted) return error.retryAfter !== undefined;
    return error.transient;
  }
}

/** Tells whether something went wrong in the server, or between it and here. */
function isServerError({ code }: ColloquyError): boolean {
  return code === Code.Unknown || code === Code.Internal || code === Code.DataLoss;
}
