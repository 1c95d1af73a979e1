/** A tab's way to the hub: in the SharedWorker of all tabs, or, where a browser has none, its own. */

import { newRequestId } from "@colloquy/client";
import workerUrl from "virtual:worker";

import type { Failure, FromHub, HubEvent, Target, ToHub } from "./protocol.ts";

/** What a tab hears of a target. */
export interface Listener {
  heard(event: HubEvent): void;
  /** It is over: the target is gone, when there is no failure. */
  ended(failure: Failure | undefined): void;
}

/** What a tab has joined. */
export interface Joined {
  /** Whether the target's watch runs already. What is listed after this is known has no gap to what
   * is heard. */
  readonly running: Promise<boolean>;
  /** Begins the watch after what was listed. False when another tab was first: list again. */
  start(token: string): Promise<boolean>;
  leave(): void;
}

interface Waiting {
  readonly listener: Listener;
  joined: (running: boolean) => void;
  started: (first: boolean) => void;
}

/** Connects a tab, by its name, to a hub and returns how to speak to it. */
type Open = (tab: string, take: (message: FromHub) => void) => Promise<(message: ToHub) => void>;

/** Each tab holds a lock for as long as it lives: this, and its name. */
const LOCK = "colloquy:tab:";

// An origin that is not secure has none.
// eslint-disable-next-line @typescript-eslint/no-unnecessary-condition
const hasLocks = navigator.locks !== undefined;

export class Link {
  /** Names this tab. */
  readonly tab: string = newRequestId();
  /** Called with whether the server is heard. */
  onStatus: (online: boolean) => void = () => undefined;
  readonly #say: Promise<(message: ToHub) => void>;
  readonly #waiting = new Map<number, Waiting>();
  #last = 0;

  constructor(open: Open) {
    this.#say = open(this.tab, (message) => {
      this.#take(message);
    });
  }

  /** The tabs that are open; undefined where that cannot be known. */
  async openTabs(): Promise<ReadonlySet<string> | undefined> {
    if (!hasLocks) return undefined;
    const { held = [] } = await navigator.locks.query();
    return new Set(held.map(({ name = "" }) => name.replace(LOCK, "")));
  }

  /** Hears a target from now on. */
  join(target: Target, listener: Listener): Joined {
    const subscription = ++this.#last;
    const waiting: Waiting = { listener, joined: () => undefined, started: () => undefined };
    this.#waiting.set(subscription, waiting);
    const running = new Promise<boolean>((resolve) => (waiting.joined = resolve));
    this.say({ type: "join", subscription, target });
    return {
      running,
      start: (token) => {
        const first = new Promise<boolean>((resolve) => (waiting.started = resolve));
        this.say({ type: "start", subscription, token });
        return first;
      },
      leave: () => {
        this.#waiting.delete(subscription);
        this.say({ type: "leave", subscription });
      },
    };
  }

  say(message: ToHub): void {
    void this.#say.then((say) => {
      say(message);
    });
  }

  #take(message: FromHub): void {
    if (message.type === "status") {
      this.onStatus(message.online);
      return;
    }
    const waiting = this.#waiting.get(message.subscription);
    if (waiting === undefined) return;
    switch (message.type) {
      case "joined":
        waiting.joined(message.running);
        return;
      case "started":
        waiting.started(message.first);
        return;
      case "event":
        waiting.listener.heard(message.event);
        return;
      case "ended":
        this.#waiting.delete(message.subscription);
        waiting.listener.ended(message.failure);
    }
  }
}

/** Connects this tab. Without locks nobody would notice that a tab is gone: then each keeps to
 * itself. */
export function createLink(): Link {
  // Some browsers of phones have none.
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition
  const link = new Link(hasLocks && globalThis.SharedWorker !== undefined ? openShared : openOwn);
  if (document.hidden) link.say({ type: "visible", visible: false });
  document.addEventListener("visibilitychange", () => {
    link.say({ type: "visible", visible: !document.hidden });
  });
  addEventListener("online", () => {
    link.say({ type: "wake" });
  });
  // A tab that comes back from the browser's memory was taken for gone.
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted) location.reload();
  });
  watchForSleep(() => {
    link.say({ type: "wake" });
  });
  return link;
}

async function openShared(
  tab: string,
  take: (message: FromHub) => void,
): Promise<(message: ToHub) => void> {
  const worker = new SharedWorker(workerUrl, { type: "module", name: "colloquy" });
  const lock = LOCK + tab;
  worker.port.onmessage = ({ data }: MessageEvent<FromHub>) => {
    take(data);
  };
  await hold(lock);
  worker.port.postMessage({ type: "hello", lock });
  return (message) => {
    worker.port.postMessage(message);
  };
}

async function openOwn(
  name: string,
  take: (message: FromHub) => void,
): Promise<(message: ToHub) => void> {
  if (hasLocks) await hold(LOCK + name);
  const { createHub } = await import("./server.ts");
  const tab = createHub().connect(take);
  return (message) => {
    tab.handle(message);
  };
}

/** Holds a lock until the tab is gone. */
function hold(lock: string): Promise<void> {
  return new Promise((held) => {
    void navigator.locks.request(lock, () => {
      held();
      return new Promise(() => undefined);
    });
  });
}

/** Seconds between looks at the clock, and how many must be missing for a sleep. */
const LOOK = 5;
const SLEPT = 20;

/** Calls back after the machine slept. A hidden tab, whose clock is slow, does not look. */
function watchForSleep(woke: () => void): void {
  let last = Date.now();
  setInterval(() => {
    const now = Date.now();
    if (now - last > (LOOK + SLEPT) * 1000 && !document.hidden) woke();
    last = now;
  }, LOOK * 1000);
}
