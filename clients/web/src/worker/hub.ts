/**
 * Watches the server for many tabs: each conversation, and the index, by one stream.
 *
 * Browsers open six connections to a host of HTTP/1.1, for all tabs together. So only a few
 * conversations are watched at a time, those that can be seen first; the others go on from their
 * tokens when they are seen again. When more can be seen than may be watched, they take turns.
 *
 * A tab joins before it lists what there is, so that nothing falls between: whatever changes after
 * it has joined it is told.
 */

import { toColloquyError, type ColloquyError } from "@colloquy/client";
import { Code } from "@connectrpc/connect";

import { INDEX, type FromHub, type HubEvent, type Target, type ToHub } from "./protocol.ts";

/** How many conversations are watched at a time. With the index two connections are left for calls. */
const MAX_WATCHED = 3;
/** Seconds between turns. */
const TURN = 3;
/** Seconds until a watch that failed in a way that may pass begins again. */
const AGAIN = 5;
/** Seconds until what was read is told to the server: more may be read meanwhile. */
const READ_DELAY = 0.5;

/** Errors with which a watch is over. */
const FINAL = new Set([
  Code.NotFound,
  Code.Unauthenticated,
  Code.PermissionDenied,
  Code.InvalidArgument,
  Code.Unimplemented,
]);

/** What the hub needs of the server. */
export interface Server {
  /** Streams what happens to a target after a token. Resumes by itself; throws when that is no use. */
  watch(target: Target, token: string, signal: AbortSignal): AsyncIterable<HubEvent>;
  markRead(conversationId: string, messageId: string): Promise<unknown>;
}

interface Subscription {
  readonly target: Target;
  readonly tab: Tab;
  readonly number: number;
}

interface Watch {
  readonly target: Target;
  readonly subscriptions: Set<Subscription>;
  /** Where to go on; undefined until a tab has said where to begin. */
  token: string | undefined;
  /** Larger for what was seen later. */
  rank: number;
  running: AbortController | undefined;
}

export class Hub {
  readonly #server: Server;
  readonly #tabs = new Set<Tab>();
  readonly #watches = new Map<Target, Watch>();
  readonly #read = new Map<string, string>();
  #rank = 0;
  #online = true;
  #turns: ReturnType<typeof setInterval> | undefined;

  constructor(server: Server) {
    this.#server = server;
  }

  /** Adds a tab, which is told things by `tell`. */
  connect(tell: (message: FromHub) => void): Tab {
    const tab = new Tab(this, tell);
    this.#tabs.add(tab);
    tell({ type: "status", online: this.#online });
    return tab;
  }

  /** Takes that the server was heard, or that a connection to it failed. */
  noteConnection(online: boolean): void {
    if (online === this.#online) return;
    this.#online = online;
    for (const tab of this.#tabs) tab.tell({ type: "status", online });
  }

  /** Connects anew: what is connected may be dead without having said so. */
  wake(): void {
    for (const watch of this.#watches.values()) this.#pause(watch);
    this.schedule();
  }

  /** Takes away a tab that is closed. */
  disconnect(tab: Tab): void {
    this.#tabs.delete(tab);
    this.schedule();
  }

  join(subscription: Subscription): void {
    const { target } = subscription;
    let watch = this.#watches.get(target);
    if (watch === undefined) {
      watch = { target, subscriptions: new Set(), token: undefined, rank: 0, running: undefined };
      this.#watches.set(target, watch);
    }
    watch.subscriptions.add(subscription);
    watch.rank = ++this.#rank;
    const running = watch.token !== undefined;
    subscription.tab.tell({ type: "joined", subscription: subscription.number, running });
    this.schedule();
  }

  start({ target, tab, number }: Subscription, token: string): void {
    const watch = this.#watches.get(target);
    if (watch === undefined) return;
    const first = watch.token === undefined;
    watch.token ??= token;
    tab.tell({ type: "started", subscription: number, first });
    this.schedule();
  }

  leave(subscription: Subscription): void {
    const watch = this.#watches.get(subscription.target);
    if (!watch?.subscriptions.delete(subscription) || watch.subscriptions.size > 0) return;
    this.#pause(watch);
    this.#watches.delete(watch.target);
    this.schedule();
  }

  /** Takes that a tab is seen: what it watches goes before others. */
  noteVisible(tab: Tab): void {
    for (const { target } of tab.subscriptions) {
      const watch = this.#watches.get(target);
      if (watch !== undefined) watch.rank = ++this.#rank;
    }
    this.schedule();
  }

  /** Tells the server soon, once for all tabs, how far a conversation was read. */
  read(conversationId: string, messageId: string): void {
    const isDue = this.#read.has(conversationId);
    this.#read.set(conversationId, messageId);
    if (isDue) return;
    setTimeout(() => {
      const last = this.#read.get(conversationId) ?? messageId;
      this.#read.delete(conversationId);
      // What was not told now is told with the next message that is read.
      this.#server.markRead(conversationId, last).catch(() => undefined);
    }, READ_DELAY * 1000);
  }

  /** Lets those watches run that should. */
  schedule(): void {
    const begun = [...this.#watches.values()].filter(({ token }) => token !== undefined);
    const wanted = begun.filter(({ target }) => target !== INDEX).sort(isMoreWanted);
    wanted.slice(MAX_WATCHED).forEach((watch) => {
      this.#pause(watch);
    });
    const chosen = wanted.slice(0, MAX_WATCHED);
    for (const watch of begun) {
      if (watch.target !== INDEX && !chosen.includes(watch)) continue;
      if (watch.running === undefined) void this.#run(watch);
    }
    const waiting = wanted.slice(MAX_WATCHED).filter(isVisible);
    if (waiting.length === 0) {
      clearInterval(this.#turns);
      this.#turns = undefined;
    } else {
      this.#turns ??= setInterval(() => {
        this.#takeTurns();
      }, TURN * 1000);
    }
  }

  /** Gives the place of the watch that has run the longest to the one that has waited the longest. */
  #takeTurns(): void {
    const waiting = [...this.#watches.values()].filter(
      (watch) => watch.running === undefined && isVisible(watch),
    );
    const next = waiting.sort((one, other) => one.rank - other.rank)[0];
    if (next !== undefined) next.rank = ++this.#rank;
    this.schedule();
  }

  #pause(watch: Watch): void {
    watch.running?.abort();
    watch.running = undefined;
  }

  async #run(watch: Watch): Promise<void> {
    const running = new AbortController();
    watch.running = running;
    for (;;) {
      let failure: ColloquyError | undefined;
      try {
        const token = watch.token ?? "";
        for await (const event of this.#server.watch(watch.target, token, running.signal)) {
          if (hasEnded(running)) return;
          watch.token = event.resumeToken || watch.token;
          for (const { tab, number } of watch.subscriptions) {
            tab.tell({ type: "event", subscription: number, event });
          }
        }
      } catch (thrown) {
        failure = toColloquyError(thrown);
      }
      if (hasEnded(running)) return;
      if (failure === undefined || FINAL.has(failure.code)) {
        this.#end(watch, failure);
        return;
      }
      this.noteConnection(false);
      await new Promise((resolve) => setTimeout(resolve, AGAIN * 1000));
      if (hasEnded(running)) return;
    }
  }

  #end(watch: Watch, failure: ColloquyError | undefined): void {
    this.#watches.delete(watch.target);
    const told = failure && {
      message: failure.message,
      code: failure.code,
      reason: failure.reason,
    };
    for (const { tab, number } of watch.subscriptions) {
      tab.tell({ type: "ended", subscription: number, failure: told });
    }
    this.schedule();
  }
}

/** A tab, as the hub knows it. */
export class Tab {
  readonly tell: (message: FromHub) => void;
  visible = true;
  readonly #hub: Hub;
  readonly #subscriptions = new Map<number, Subscription>();

  constructor(hub: Hub, tell: (message: FromHub) => void) {
    this.#hub = hub;
    this.tell = tell;
  }

  get subscriptions(): Iterable<Subscription> {
    return this.#subscriptions.values();
  }

  /** Takes what the tab says. */
  handle(message: ToHub): void {
    switch (message.type) {
      case "join": {
        const { subscription: number, target } = message;
        const subscription = { target, tab: this, number };
        this.#subscriptions.set(number, subscription);
        this.#hub.join(subscription);
        return;
      }
      case "start": {
        const subscription = this.#subscriptions.get(message.subscription);
        if (subscription !== undefined) this.#hub.start(subscription, message.token);
        return;
      }
      case "leave": {
        const subscription = this.#subscriptions.get(message.subscription);
        this.#subscriptions.delete(message.subscription);
        if (subscription !== undefined) this.#hub.leave(subscription);
        return;
      }
      case "visible":
        this.visible = message.visible;
        if (message.visible) this.#hub.noteVisible(this);
        else this.#hub.schedule();
        return;
      case "read":
        this.#hub.read(message.conversationId, message.messageId);
        return;
      case "wake":
        this.#hub.wake();
    }
  }

  /** Takes that the tab is closed. */
  close(): void {
    for (const subscription of this.#subscriptions.values()) this.#hub.leave(subscription);
    this.#subscriptions.clear();
    this.#hub.disconnect(this);
  }
}

/** Asked where the compiler would remember an earlier answer. */
function hasEnded({ signal }: AbortController): boolean {
  return signal.aborted;
}

function isVisible(watch: Watch): boolean {
  return [...watch.subscriptions].some(({ tab }) => tab.visible);
}

function isMoreWanted(one: Watch, other: Watch): number {
  return Number(isVisible(other)) - Number(isVisible(one)) || other.rank - one.rank;
}
