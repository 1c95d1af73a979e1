/** The conversations that the user sees, always as they now stand. */

import {
  Code,
  newRequestId,
  type Conversation,
  type Conversation_Visibility,
  type ConversationsEvent,
  type User,
} from "@colloquy/client";

import { INDEX, type Failure, type HubEvent } from "../worker/protocol.ts";
import type { Joined } from "../worker/link.ts";
import { client, link } from "./api.ts";
import { sentenceOf } from "./errors.ts";
import { notices } from "./notices.svelte.ts";
import { Search } from "./search.svelte.ts";
import { session } from "./session.svelte.ts";

export type { Search } from "./search.svelte.ts";

export type ListName = "pinned" | "recent" | "archived";

/** What a new conversation may be given. */
export interface NewConversation {
  title?: string;
  model?: string;
  systemPrompt?: string;
  visibility?: Conversation_Visibility;
}

const PAGE_SIZE = 100;

/** Of a list that is paged: where the next page begins, empty at its end. */
interface Paging {
  token: string;
  hasBegun: boolean;
  /** The activity of the last one of the last page: what is older may have gaps before it. */
  oldest: bigint;
  loading: Promise<void> | undefined;
}

function noPages(): Record<ListName, Paging> {
  const none = (): Paging => ({ token: "", hasBegun: false, oldest: 0n, loading: undefined });
  return { pinned: none(), recent: none(), archived: none() };
}

const FILTERS = {
  pinned: { archived: false, pinned: true },
  recent: { archived: false, pinned: false },
  archived: { archived: true },
} as const;

class Index {
  /** Each sorted by activity, the latest first. An archived one is in no other list. */
  pinned: Conversation[] = $state.raw([]);
  recent: Conversation[] = $state.raw([]);
  archived: Conversation[] = $state.raw([]);
  /** The first page is there. */
  isLoaded = $state(false);
  /** A sentence when the first page could not be loaded. */
  error = $state("");
  /** How many of the known conversations have something unread. */
  unreadTotal = $state(0);

  #known = new Map<string, Conversation>();
  /** Which are gone: an answer that is on its way does not bring them back. */
  readonly #removed = new Set<string>();
  #pages = $state.raw(noPages());
  #joined: Joined | undefined;
  #isPublishing = false;

  constructor() {
    session.onSignedIn(() => void this.start());
    session.onSignedOut(() => {
      this.#stop();
    });
  }

  /** Loads the first pages, and hears what changes. */
  async start(): Promise<void> {
    this.#joined?.leave();
    this.error = "";
    const joined = link.join(INDEX, {
      heard: (event) => {
        this.#heard(event);
      },
      ended: (failure) => {
        this.#ended(failure);
      },
    });
    this.#joined = joined;
    if (!(await joined.running)) await joined.start("");
    await this.#begin();
  }

  hasMore(list: ListName): boolean {
    const pages = this.#pages[list];
    return !pages.hasBegun || pages.token !== "";
  }

  /** Loads the next page of a list; one that is loading is not loaded twice. Throws ColloquyError. */
  loadMore(list: ListName): Promise<void> {
    const pages = this.#pages[list];
    pages.loading ??= this.#loadPage(list, pages).finally(() => {
      pages.loading = undefined;
    });
    return pages.loading;
  }

  /** A conversation that is known; undefined otherwise. */
  get(id: string): Conversation | undefined {
    return [this.pinned, this.recent, this.archived].flat().find((one) => one.id === id);
  }

  /** Takes a conversation as it now stands. */
  put(conversation: Conversation): void {
    if (this.#removed.has(conversation.id)) return;
    this.#known.set(conversation.id, conversation);
    this.#publishSoon();
  }

  /** Makes a conversation and returns it. Throws ColloquyError. */
  async create(what: NewConversation = {}): Promise<Conversation> {
    const requestId = newRequestId();
    const answer = await client.conversations.createConversation({ ...what, requestId });
    const conversation = answer.conversation as Conversation;
    this.put(conversation);
    return conversation;
  }

  // These show at once; when the server refuses they go back, and a notice says why.

  async rename(id: string, title: string): Promise<void> {
    await this.#change(id, { title });
  }

  async setPinned(id: string, pinned: boolean): Promise<void> {
    await this.#change(id, { pinned });
  }

  async setArchived(id: string, archived: boolean): Promise<void> {
    await this.#change(id, { archived });
  }

  async remove(id: string): Promise<void> {
    const before = this.#known.get(id);
    this.#forget(id);
    try {
      await client.conversations.deleteConversation({ conversationId: id });
    } catch (thrown) {
      this.#removed.delete(id);
      if (before !== undefined) this.put(before);
      notices.say(sentenceOf(thrown), "error");
    }
  }

  search(query: string): Search {
    return new Search(query);
  }

  /** People of the account whose names have a word that begins like this; at most 50. Throws
   * ColloquyError. */
  async users(query: string): Promise<User[]> {
    return (await client.conversations.listUsers({ query })).users;
  }

  async #change(
    id: string,
    changes: Partial<Pick<Conversation, "title" | "pinned" | "archived">>,
  ): Promise<void> {
    const before = this.#known.get(id);
    if (before !== undefined) this.put({ ...before, ...changes });
    try {
      const answer = await client.conversations.updateConversation({
        conversation: { id, ...changes },
        updateMask: { paths: Object.keys(changes) },
      });
      if (answer.conversation !== undefined) this.put(answer.conversation);
    } catch (thrown) {
      const now = this.#known.get(id);
      if (before !== undefined && now !== undefined) {
        const back = Object.keys(changes).map((name) => [name, before[name as keyof Conversation]]);
        this.put({ ...now, ...(Object.fromEntries(back) as Partial<Conversation>) });
      }
      notices.say(sentenceOf(thrown), "error");
    }
  }

  /** Loads the first pages of what is shown first; what was known before is forgotten. */
  async #begin(): Promise<void> {
    this.#pages = noPages();
    this.#known = new Map();
    this.#removed.clear();
    this.isLoaded = false;
    try {
      await Promise.all([this.loadMore("pinned"), this.loadMore("recent")]);
    } catch (thrown) {
      this.error = sentenceOf(thrown);
      return;
    }
    this.isLoaded = true;
    this.#publish();
  }

  async #loadPage(list: ListName, pages: Paging): Promise<void> {
    if (pages.hasBegun && pages.token === "") return;
    const answer = await client.conversations.listConversations({
      ...FILTERS[list],
      pageSize: PAGE_SIZE,
      pageToken: pages.token,
    });
    if (pages !== this.#pages[list]) return; // the index began anew meanwhile
    for (const conversation of answer.conversations) {
      // What was heard meanwhile is newer.
      if (!this.#known.has(conversation.id)) this.put(conversation);
    }
    const last = answer.conversations.at(-1);
    const next = {
      token: answer.nextPageToken,
      hasBegun: true,
      oldest: last === undefined ? 0n : activityOf(last),
      loading: undefined,
    };
    this.#pages = { ...this.#pages, [list]: next };
    this.#publish();
  }

  #heard({ event }: HubEvent): void {
    const heard = event as ConversationsEvent["event"];
    if (heard.case === "conversation") {
      this.#removed.delete(heard.value.id);
      this.put(heard.value);
    } else if (heard.case === "removed") {
      this.#forget(heard.value);
    } else if (heard.case === "reset") {
      void this.#begin();
    }
  }

  #ended(failure: Failure | undefined): void {
    this.#joined = undefined;
    if (failure?.code === Code.Unauthenticated) void session.end();
  }

  #stop(): void {
    this.#joined?.leave();
    this.#joined = undefined;
    this.#known.clear();
    this.#publish();
    this.isLoaded = false;
  }

  #forget(id: string): void {
    this.#removed.add(id);
    if (this.#known.delete(id)) this.#publishSoon();
  }

  /** Shows what is known, once for all that comes in one turn. */
  #publishSoon(): void {
    if (this.#isPublishing) return;
    this.#isPublishing = true;
    queueMicrotask(() => {
      this.#isPublishing = false;
      this.#publish();
    });
  }

  #publish(): void {
    const lists: Record<ListName, Conversation[]> = { pinned: [], recent: [], archived: [] };
    for (const conversation of this.#known.values()) lists[listOf(conversation)].push(conversation);
    this.pinned = this.#shown("pinned", lists.pinned);
    this.recent = this.#shown("recent", lists.recent);
    this.archived = this.#shown("archived", lists.archived);
    let unread = 0;
    for (const { unreadCount, archived } of this.#known.values()) {
      if (unreadCount > 0 && !archived) unread++;
    }
    this.unreadTotal = unread;
  }

  #shown(list: ListName, conversations: Conversation[]): Conversation[] {
    const { oldest, token } = this.#pages[list];
    const shown =
      token === "" ? conversations : conversations.filter((one) => activityOf(one) >= oldest);
    return shown.sort(byActivity);
  }
}

function listOf({ archived, pinned }: Conversation): ListName {
  return archived ? "archived" : pinned ? "pinned" : "recent";
}

/** Nanoseconds since 1970. */
function activityOf({ lastMessageTime, createTime }: Conversation): bigint {
  const time = lastMessageTime ?? createTime;
  return time === undefined ? 0n : time.seconds * 1_000_000_000n + BigInt(time.nanos);
}

function byActivity(one: Conversation, other: Conversation): number {
  const difference = activityOf(other) - activityOf(one);
  if (difference !== 0n) return difference > 0n ? 1 : -1;
  return one.id < other.id ? 1 : -1;
}

export const index = new Index();
