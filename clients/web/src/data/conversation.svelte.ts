/** A conversation that is open in this tab. */

import { create } from "@bufbuild/protobuf";
import {
  Code,
  isFinal,
  Message_Role,
  Message_State,
  MessageSchema,
  newRequestId,
  OnBusy,
  OutOfOrder,
  toColloquyError,
  type Attachment,
  type ContextReceipt,
  type Conversation,
  type Conversation_Visibility,
  type ConversationEvent,
  type ListMessagesResponse,
  type Message,
  type Rating,
  type User,
} from "@colloquy/client";

import { untrack } from "svelte";

import type { Failure, HubEvent } from "../worker/protocol.ts";
import type { Joined } from "../worker/link.ts";
import { client, link } from "./api.ts";
import { connection } from "./connection.svelte.ts";
import { ColloquyError, sentenceOf } from "./errors.ts";
import { jsonOf, markdownOf } from "./export.ts";
import { index } from "./index.svelte.ts";
import { Item } from "./item.svelte.ts";
import type { Delivery, Entry } from "./outbox.ts";
import { outbox } from "./sending.ts";
import { session } from "./session.svelte.ts";
import { Timeline } from "./timeline.ts";

const PAGE_SIZE = 50;
/** When a message is looked for, pages are as long as they can be. */
const LONG_PAGE_SIZE = 200;

/** A message of this browser that is on its way, and what shows it. */
interface Outgoing {
  readonly delivery: Delivery;
  item: Item;
  /** The id of the message that it seems to have become: what is heard may come before the answer. */
  messageId: string | undefined;
}

export class OpenConversation {
  /** `missing`: there is none that the user may see; `failed`: see `error`. */
  state: "loading" | "ready" | "missing" | "deleted" | "failed" = $state("loading");
  /** A sentence when it could not be loaded. */
  error = $state("");
  conversation: Conversation | undefined = $state.raw();
  /** Oldest first: prompts, each with the latest reply after it, then what is being sent. */
  items: Item[] = $state.raw([]);
  hasOlder = $state(false);
  /** The reply that is being written, or the first that waits. */
  active: Item | undefined = $state.raw();
  readonly id: string;

  readonly #timeline = new Timeline<Item>();
  // What is shown of it is in `items`.
  // eslint-disable-next-line svelte/prefer-svelte-reactivity
  readonly #outgoing = new Map<string, Outgoing>();
  #joined: Joined | undefined;
  /** What was heard while a listing was on its way. */
  #unapplied: ConversationEvent[] | undefined = [];
  #olderToken = "";
  #loadingOlder: Promise<void> | undefined;
  /** Messages before the first one that is held, which changed while their page was on its way. */
  #changedBefore: Message[] | undefined;
  #isSeeking = false;
  #lastRead = "";
  #isClosed = false;

  constructor(id: string) {
    this.id = id;
    this.conversation = index.get(id);
    for (const delivery of outbox().of(id)) this.#follow(delivery);
    void this.#open();
  }

  /** Loads the page before the oldest item; one that is loading is not loaded twice. Throws
   * ColloquyError. */
  loadOlder(pageSize = PAGE_SIZE): Promise<void> {
    this.#loadingOlder ??= this.#loadOlder(pageSize).finally(() => {
      this.#loadingOlder = undefined;
    });
    return this.#loadingOlder;
  }

  /** Loads older pages until this message is there. Returns its item; undefined when it is not in
   * the conversation. Throws ColloquyError. */
  async loadUntil(messageId: string): Promise<Item | undefined> {
    // What is on the way there shows with it: a page alone is of no use to anybody.
    this.#isSeeking = true;
    try {
      while (this.#timeline.get(messageId) === undefined && this.hasOlder) {
        await this.loadOlder(LONG_PAGE_SIZE);
      }
    } finally {
      this.#isSeeking = false;
      this.#arrange();
    }
    return this.#timeline.get(messageId);
  }

  /** Says something. Its item is there at once. Returns when the server has accepted it; throws
   * ColloquyError when it refused: the item stays until it is discarded or sent again. */
  async send(
    content: string,
    attachments: readonly Attachment[] = [],
    { onBusy = OnBusy.UNSPECIFIED }: { onBusy?: OnBusy } = {},
  ): Promise<void> {
    const delivery = outbox().add({
      requestId: newRequestId(),
      conversationId: this.id,
      content,
      attachments,
      onBusy,
      time: Date.now(),
    });
    const { item } = this.#follow(delivery);
    this.#arrange();
    const outcome = await delivery.outcome;
    if ("refused" in outcome) throw new Refused(outcome.refused, outcome.error, item);
  }

  /** Stops a reply. Throws ColloquyError. */
  async stop(messageId: string): Promise<void> {
    const { message } = await client.conversations.cancelReply({ messageId });
    if (message !== undefined) this.#put(message);
  }

  /** Answers again; the model is that of the conversation when none is named. Throws
   * ColloquyError. */
  async regenerate(messageId: string, model = ""): Promise<void> {
    for await (const { event } of client.regenerate(messageId, { model })) {
      if (event.case !== "accepted") continue;
      // The older reply is told by the watch.
      if (event.value.reply !== undefined) this.#put(event.value.reply);
      return;
    }
  }

  /** Sends a refused message again, or makes a failed reply again. Throws ColloquyError. */
  async retry(item: Item): Promise<void> {
    const outgoing = [...this.#outgoing.values()].find((one) => one.item === item);
    if (outgoing === undefined) {
      await this.regenerate(item.message.id, item.message.model);
      return;
    }
    const { content, attachments, onBusy } = outgoing.delivery.entry;
    this.discard(item);
    await this.send(content, attachments, { onBusy });
  }

  /** Takes a refused message away. */
  discard(item: Item): void {
    for (const [requestId, outgoing] of this.#outgoing) {
      if (outgoing.item !== item) continue;
      this.#outgoing.delete(requestId);
      outbox().discard(requestId);
    }
    this.#arrange();
  }

  /** Throws ColloquyError. */
  async rate(messageId: string, rating: Rating, comment = ""): Promise<void> {
    const { message } = await client.conversations.rateReply({ messageId, rating, comment });
    if (message !== undefined) this.#put(message);
  }

  /** Deletes a prompt with its replies. Throws ColloquyError. */
  async deleteMessage(id: string): Promise<void> {
    await client.conversations.deleteMessage({ messageId: id });
  }

  /** What a reply's model was given. Throws ColloquyError. */
  async receipt(messageId: string): Promise<ContextReceipt | undefined> {
    return (await client.conversations.getMessage({ messageId })).message?.context;
  }

  /** Throws ColloquyError. */
  async update(changes: {
    title?: string;
    model?: string;
    systemPrompt?: string;
    visibility?: Conversation_Visibility;
  }): Promise<void> {
    const names = { systemPrompt: "system_prompt" } as Record<string, string>;
    const answer = await client.conversations.updateConversation({
      conversation: { id: this.id, ...changes },
      updateMask: { paths: Object.keys(changes).map((name) => names[name] ?? name) },
    });
    this.#take(answer.conversation);
  }

  /** Invites people; the server knows them by id or external_id. Throws ColloquyError. */
  async invite(users: readonly Pick<User, "id" | "externalId">[]): Promise<void> {
    const answer = await client.conversations.addParticipants({
      conversationId: this.id,
      users: users.map(({ id, externalId }) => (id === "" ? { externalId } : { id })),
    });
    this.#take(answer.conversation);
  }

  /** Throws ColloquyError. */
  async removeParticipant(userId: string): Promise<void> {
    const answer = await client.conversations.removeParticipant({
      conversationId: this.id,
      userId,
    });
    this.#take(answer.conversation);
  }

  /** Says that the end of the conversation is seen; cheap to call often. */
  markRead(): void {
    if (document.hidden || this.state !== "ready") return;
    const last = this.#timeline.all.at(-1)?.message;
    if (last === undefined || last.id === this.#lastRead) return;
    if (!isFinal(last)) return; // its end would come unread
    this.#lastRead = last.id;
    link.say({ type: "read", conversationId: this.id, messageId: last.id });
  }

  /** All of it, as a Markdown file. Throws ColloquyError. */
  async exportMarkdown(): Promise<Blob> {
    return markdownOf(await this.#whole());
  }

  /** All of it, as a JSON file. Throws ColloquyError. */
  async exportJson(): Promise<Blob> {
    return jsonOf(await this.#whole());
  }

  /** Ends what it hears from the server; called when its view goes. */
  close(): void {
    this.#isClosed = true;
    this.#joined?.leave();
    for (const { delivery } of this.#outgoing.values()) delivery.onChange = () => undefined;
  }

  /** Hears the conversation from now on, and loads its end. */
  async #open(): Promise<void> {
    const joined = link.join(this.id, {
      heard: (event) => {
        this.#heard(event);
      },
      ended: (failure) => {
        this.#ended(failure);
      },
    });
    this.#joined = joined;
    try {
      const conversation = client.conversations.getConversation({ conversationId: this.id });
      conversation.catch(() => undefined); // when the listing fails too, it says why
      const running = await joined.running;
      let page = await this.#listEnd();
      // When another tab began the watch meanwhile, it began at another time than this listing.
      if (!running && !(await joined.start(page.resumeToken))) page = await this.#listEnd();
      this.#take((await conversation).conversation);
      this.#begin(page);
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  #fail(thrown: unknown): void {
    const { code, message, reason } = toColloquyError(thrown);
    this.#ended({ code, message, reason });
    if (this.state === "loading") {
      this.error = sentenceOf(thrown);
      this.state = "failed";
    }
  }

  #listEnd(): Promise<ListMessagesResponse> {
    return client.conversations.listMessages({
      conversationId: this.id,
      fromEnd: true,
      pageSize: PAGE_SIZE,
    });
  }

  /** Shows the end of the conversation, and then what was heard since. */
  #begin(page: ListMessagesResponse): void {
    this.#timeline.clear();
    this.#timeline.prepend(
      page.messages.filter(({ deleted }) => !deleted).map((one) => new Item(one)),
    );
    this.#setOlder(page.nextPageToken);
    this.#attribute();
    const heard = this.#unapplied ?? [];
    this.#unapplied = undefined;
    for (const event of heard) this.#apply(event);
    this.#arrange();
    this.state = "ready";
  }

  async #loadOlder(pageSize: number): Promise<void> {
    if (this.#olderToken === "") return;
    const changed: Message[] = [];
    this.#changedBefore = changed;
    const page = await client.conversations.listMessages({
      conversationId: this.id,
      fromEnd: true,
      pageSize,
      pageToken: this.#olderToken,
    });
    this.#changedBefore = undefined;
    this.#timeline.prepend(
      page.messages.filter(({ deleted }) => !deleted).map((one) => new Item(one)),
    );
    this.#setOlder(page.nextPageToken);
    for (const message of changed) this.#put(message);
    this.#arrange();
  }

  #setOlder(token: string): void {
    this.#olderToken = token;
    this.hasOlder = token !== "";
  }

  /** Every message from the first to the last. */
  async #whole(): Promise<{ conversation: Conversation; messages: Message[] }> {
    const messages: Message[] = [];
    let pageToken = "";
    do {
      const page = await client.conversations.listMessages({
        conversationId: this.id,
        pageSize: LONG_PAGE_SIZE,
        pageToken,
      });
      messages.push(...page.messages.filter(({ deleted }) => !deleted));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return { conversation: this.conversation as Conversation, messages };
  }

  #heard(event: HubEvent): void {
    const heard = event as ConversationEvent;
    if (this.#unapplied !== undefined) {
      this.#unapplied.push(heard);
      return;
    }
    this.#apply(heard);
  }

  #apply({ event }: ConversationEvent): void {
    switch (event.case) {
      case "message":
        this.#put(event.value);
        return;
      case "delta":
        try {
          this.#timeline.get(event.value.messageId)?.append(event.value);
        } catch (thrown) {
          if (!(thrown instanceof OutOfOrder)) throw thrown;
          void this.#again();
        }
        return;
      case "conversation":
        this.#take(event.value);
        return;
      case "deleted":
        this.state = "deleted";
    }
  }

  /** Lists the end again: text is missing. */
  async #again(): Promise<void> {
    if (this.#unapplied !== undefined) return;
    this.#unapplied = [];
    try {
      this.#begin(await this.#listEnd());
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  #ended(failure: Failure | undefined): void {
    if (this.#isClosed) return;
    if (failure === undefined) this.state = "deleted";
    else if (failure.code === Code.Unauthenticated) void session.end();
    else if (failure.code === Code.NotFound || failure.code === Code.InvalidArgument) {
      this.state = this.state === "ready" ? "deleted" : "missing";
    }
  }

  #take(conversation: Conversation | undefined): void {
    if (conversation === undefined) return;
    this.conversation = conversation;
    index.put(conversation);
  }

  /** Takes a message as it now stands. */
  #put(message: Message): void {
    const held = this.#timeline.get(message.id);
    if (message.deleted) {
      this.#timeline.remove(message.id);
      this.#arrange();
    } else if (held !== undefined) {
      held.replace(message);
      this.#arrange();
    } else if (this.hasOlder && this.#timeline.isOlder(message)) {
      this.#changedBefore?.push(message);
    } else {
      this.#timeline.add(this.#outgoingFor(message) ?? new Item(message));
      this.#arrange();
    }
  }

  /** The item of this browser's message that this one seems to be. */
  #outgoingFor(message: Message): Item | undefined {
    const outgoing = this.#claim(message);
    outgoing?.item.replace(message);
    return outgoing?.item;
  }

  #claim(message: Message): Outgoing | undefined {
    if (message.role !== Message_Role.USER || message.author?.id !== session.user?.id) return;
    const outgoing = [...this.#outgoing.values()].find(
      (one) =>
        one.messageId === undefined &&
        one.item.local !== "refused" &&
        one.delivery.entry.content === message.content,
    );
    if (outgoing === undefined) return;
    outgoing.messageId = message.id;
    outgoing.item.local = undefined;
    return outgoing;
  }

  /** Finds what an earlier page was sending among the newest messages: it may have been accepted. */
  #attribute(): void {
    const resumed = [...this.#outgoing.values()].filter(({ delivery }) => delivery.isResumed);
    for (const { message } of this.#timeline.all.slice(-2 * resumed.length)) {
      const outgoing = this.#claim(message);
      if (outgoing !== undefined) outgoing.item = this.#timeline.get(message.id) as Item;
    }
  }

  /** Shows a message that is on its way, and what becomes of it. */
  #follow(delivery: Delivery): Outgoing {
    const outgoing: Outgoing = { delivery, item: itemOf(delivery.entry), messageId: undefined };
    this.#outgoing.set(delivery.entry.requestId, outgoing);
    const show = (): void => {
      if (outgoing.messageId !== undefined) return;
      const isWaiting = delivery.isWaiting || connection.status === "offline";
      outgoing.item.local = isWaiting ? "waiting-for-network" : "sending";
    };
    show();
    delivery.onChange = show;
    void delivery.outcome.then((outcome) => {
      if ("accepted" in outcome) {
        this.#accepted(outgoing, outcome.accepted.message, outcome.accepted.reply);
        return;
      }
      if (outgoing.messageId !== undefined) {
        // It was another one that looked the same.
        outgoing.messageId = undefined;
        outgoing.item = itemOf(delivery.entry);
      }
      outgoing.item.local = "refused";
      const code = outcome.error?.code ?? Code.Unknown;
      outgoing.item.error = new ColloquyError(outcome.refused, code);
      this.#arrange();
    });
    return outgoing;
  }

  #accepted(outgoing: Outgoing, message: Message | undefined, reply: Message | undefined): void {
    if (message === undefined) return;
    this.#outgoing.delete(outgoing.delivery.entry.requestId);
    const held = this.#timeline.get(message.id);
    if (held === undefined && outgoing.messageId === undefined && !message.deleted) {
      outgoing.item.local = undefined;
      outgoing.item.replace(message);
      this.#timeline.add(outgoing.item);
    } else {
      this.#put(message);
    }
    if (reply !== undefined) this.#put(reply);
    this.#arrange();
  }

  /** Puts what is there in its order. */
  #arrange(): void {
    if (this.#isSeeking) return;
    const items = this.#timeline.rows().map(({ item, versions }) => {
      if (versions.length > 0 || item.versions.length > 0) item.versions = versions;
      return item;
    });
    for (const { item, messageId } of this.#outgoing.values()) {
      if (messageId === undefined) items.push(item);
    }
    const isSame =
      items.length === this.items.length && items.every((one, i) => one === this.items[i]);
    if (!isSame) this.items = items;
    const replies = items.filter(({ message }) => message.role === Message_Role.ASSISTANT);
    this.active =
      replies.find(({ message }) => message.state === Message_State.GENERATING) ??
      replies.find(({ message }) => message.state === Message_State.QUEUED);
  }
}

/** The server refused what `send` said; `item` shows it. */
export class Refused extends ColloquyError {
  readonly item: Item;

  constructor(message: string, error: ColloquyError | undefined, item: Item) {
    super(message, error?.code ?? Code.Unknown, { reason: error?.reason ?? "", cause: error });
    this.item = item;
  }
}

function itemOf(entry: Entry): Item {
  return new Item(
    create(MessageSchema, {
      id: entry.requestId,
      conversationId: entry.conversationId,
      role: Message_Role.USER,
      content: entry.content,
      attachments: [...entry.attachments],
      state: Message_State.COMPLETED,
      createTime: { seconds: BigInt(Math.floor(entry.time / 1000)), nanos: 0 },
      ...(session.user && { author: session.user }),
    }),
  );
}

/** Opens a conversation. What it is made from does not make a derived value that holds it anew. */
export function openConversation(id: string): OpenConversation {
  return untrack(() => new OpenConversation(id));
}
