/**
 * The client.
 *
 *     const client = createClient({ baseUrl: "http://127.0.0.1:8080", apiKey });
 *     const { conversation } = await client.conversations.createConversation({});
 *     for await (const { event } of client.send(conversation.id, "Hello")) {
 *       if (event.case === "delta") process.stdout.write(event.value.text);
 *     }
 *
 * A stream that breaks is resumed: whoever iterates sees each piece once.
 */

import { create } from "@bufbuild/protobuf";
import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { createClient as createServiceClient } from "@connectrpc/connect";
import type { CallOptions, Client, Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

import { ColloquyError, toColloquyError } from "./errors.ts";
import { uploadFile } from "./files.ts";
import type { FileServer, UploadOptions } from "./files.ts";
import { follow } from "./following.ts";
import { AdminService } from "./gen/conversation/v1/admin_service_pb.ts";
import { AttachmentService } from "./gen/conversation/v1/attachment_service_pb.ts";
import {
  ConversationService,
  OnBusy,
  RegenerateReplyRequestSchema,
  SendMessageRequestSchema,
} from "./gen/conversation/v1/conversation_service_pb.ts";
import type {
  ConversationEvent,
  ConversationsEvent,
} from "./gen/conversation/v1/conversation_service_pb.ts";
import type { Attachment, Message, UserSchema } from "./gen/conversation/v1/resources_pb.ts";
import { SessionService } from "./gen/conversation/v1/session_service_pb.ts";
import type { Resumption } from "./resumption.ts";
import { IndexResumption, ReplyResumption, WatchResumption } from "./resumption.ts";
import { Retry, realTime } from "./retry.ts";
import type { Timing } from "./retry.ts";
import { Events, Reply } from "./streams.ts";

/** How a client is made. */
export interface ClientOptions {
  /** Where the server is, as "https://colloquy.example"; in a browser, the page's own by default. */
  readonly baseUrl?: string;
  /** The API key. Without one a browser is known by its cookie. */
  readonly apiKey?: string;
  /** How many seconds a call that answers once may take, its repetitions included. */
  readonly timeout?: number;
  /** How many seconds a server that cannot be reached is borne when nothing was accepted. */
  readonly patience?: number;
  /** How many seconds without anything make a server count as gone. */
  readonly silence?: number;
  /** What makes the requests. */
  readonly fetch?: typeof globalThis.fetch;
  /** What the waiting depends on. */
  readonly timing?: Timing;
}

/** What is sent with a prompt, and how its reply is followed. */
export interface SendOptions {
  readonly attachmentIds?: string[];
  /** Who speaks, for a service's key. */
  readonly author?: MessageInitShape<typeof UserSchema>;
  /** Names the request; one of one's own makes it repeatable after a reload. */
  readonly requestId?: string;
  readonly onBusy?: OnBusy;
  /** How many seconds the reply is followed; for as long as it takes by default. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** How a reply is made again. */
export interface RegenerateOptions {
  /** The conversation's by default. */
  readonly model?: string;
  readonly requestId?: string;
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** Where watching begins. */
export interface WatchOptions {
  /** The token of an event or an answer; empty to begin with how things stand. */
  readonly resumeToken?: string;
  readonly signal?: AbortSignal;
}

/** All that a caller can do. Whatever fails throws ColloquyError. */
export interface ColloquyClient {
  /**
   * The API as it is. A call that answers once, and does no harm when it is made twice, is repeated
   * while the server cannot be reached; streams here are not resumed, those of the methods are.
   */
  readonly conversations: Client<typeof ConversationService>;
  readonly attachments: Client<typeof AttachmentService>;
  readonly sessions: Client<typeof SessionService>;
  readonly admin: Client<typeof AdminService>;
  /**
   * Says something and follows the reply.
   *
   * Nothing is sent before the first event is asked for. Once `accepted` came it is followed to its
   * end, through restarts of the server and breaks of the network.
   */
  send(conversationId: string, content: string, options?: SendOptions): Reply;
  /** Has a reply made again, by another model if one is given, and follows it like `send`. */
  regenerate(messageId: string, options?: RegenerateOptions): Reply;
  /** Says something and returns the whole reply; its `state` says whether it failed. */
  ask(conversationId: string, content: string, options?: SendOptions): Promise<Message>;
  /** Follows a conversation until it is deleted. */
  watch(conversationId: string, options?: WatchOptions): Events<ConversationEvent>;
  /**
   * Follows the list of conversations: one replaces what is held of it, a removed one goes, and
   * after `reset` all that is held is forgotten.
   */
  watchConversations(options?: WatchOptions): Events<ConversationsEvent>;
  /** Uploads a file for a message and returns what is known of it. */
  uploadFile(file: Blob, options?: UploadOptions): Promise<Attachment>;
}

/** Calls that would do something else when they are made a second time. */
const UNREPEATABLE = new Set<string>([
  "CreateAccount",
  "CreateApiKey",
  "CreateWebhook",
  "DeleteAccount",
  "DeleteBudget",
  "DeleteConversation",
  "DeleteUser",
  "DeleteWebhook",
  "RemoveParticipant",
  "RetryDeadLetter",
]);

/** Makes a client. Nothing is called yet. */
export function createClient(options: ClientOptions = {}): ColloquyClient {
  return new ResumingClient(options);
}

/** Returns a name for a request. */
export function newRequestId(): string {
  return crypto.randomUUID();
}

class ResumingClient implements ColloquyClient {
  readonly conversations: Client<typeof ConversationService>;
  readonly attachments: Client<typeof AttachmentService>;
  readonly sessions: Client<typeof SessionService>;
  readonly admin: Client<typeof AdminService>;
  readonly #options: ClientOptions;
  readonly #server: FileServer;
  readonly #timing: Timing;
  readonly #silence: number;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#timing = options.timing ?? realTime;
    // The server speaks at least every 15 s: after three times that it is taken for gone.
    this.#silence = options.silence ?? 45;
    this.#server = {
      baseUrl: options.baseUrl ?? "",
      headers: options.apiKey ? { authorization: `Bearer ${options.apiKey}` } : {},
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    };
    const transport = createConnectTransport({
      baseUrl: this.#server.baseUrl,
      fetch: this.#server.fetch,
      useBinaryFormat: true,
      interceptors: [
        (next) => (request) => {
          for (const [name, value] of Object.entries(this.#server.headers)) {
            request.header.set(name, value);
          }
          return next(request);
        },
      ],
    });
    this.conversations = this.#repeating(ConversationService, transport);
    this.attachments = this.#repeating(AttachmentService, transport);
    this.sessions = this.#repeating(SessionService, transport);
    this.admin = this.#repeating(AdminService, transport);
    const { createConversation } = this.conversations;
    this.conversations.createConversation = (request, callOptions) => {
      const requestId = request.requestId || newRequestId();
      return createConversation({ ...request, requestId }, callOptions);
    };
  }

  send(conversationId: string, content: string, options: SendOptions = {}): Reply {
    const request = create(SendMessageRequestSchema, {
      conversationId,
      content,
      attachmentIds: options.attachmentIds ?? [],
      ...(options.author && { author: options.author }),
      requestId: options.requestId || newRequestId(),
      onBusy: options.onBusy ?? OnBusy.UNSPECIFIED,
    });
    return this.#reply(request.requestId, options, (signal) =>
      this.conversations.sendMessage(request, { signal }),
    );
  }

  regenerate(messageId: string, options: RegenerateOptions = {}): Reply {
    const request = create(RegenerateReplyRequestSchema, {
      messageId,
      model: options.model ?? "",
      requestId: options.requestId || newRequestId(),
    });
    return this.#reply(request.requestId, options, (signal) =>
      this.conversations.regenerateReply(request, { signal }),
    );
  }

  async ask(conversationId: string, content: string, options: SendOptions = {}): Promise<Message> {
    return this.send(conversationId, content, options).result();
  }

  watch(conversationId: string, options: WatchOptions = {}): Events<ConversationEvent> {
    const resumption = new WatchResumption(this.#retry(), options.resumeToken);
    return this.#events(resumption, options.signal, (signal) => {
      const request = { conversationId, resumeToken: resumption.token };
      return this.conversations.watchConversation(request, { signal });
    });
  }

  watchConversations(options: WatchOptions = {}): Events<ConversationsEvent> {
    const resumption = new IndexResumption(this.#retry(), options.resumeToken ?? "");
    return this.#events(resumption, options.signal, (signal) =>
      this.conversations.watchConversations({ resumeToken: resumption.token }, { signal }),
    );
  }

  uploadFile(file: Blob, options: UploadOptions = {}): Promise<Attachment> {
    return uploadFile(this.#server, file, options);
  }

  #reply(
    requestId: string,
    options: { timeout?: number; signal?: AbortSignal },
    first: (signal: AbortSignal) => AsyncIterable<{ event?: ConversationEvent | undefined }>,
  ): Reply {
    const resumption = new ReplyResumption(this.#retry(options.timeout));
    const open = (
      signal: AbortSignal,
    ): AsyncIterable<{ event?: ConversationEvent | undefined }> => {
      const { token: resumeToken, reply } = resumption;
      if (resumeToken === null || !reply) return first(signal);
      const { conversationId } = reply;
      return this.conversations.watchConversation({ conversationId, resumeToken }, { signal });
    };
    const { signal } = options;
    return new Reply(
      requestId,
      resumption,
      (closing) => this.#follow(resumption, open, closing),
      signal,
    );
  }

  #events<Event>(
    resumption: Resumption<Event>,
    signal: AbortSignal | undefined,
    open: (signal: AbortSignal) => AsyncIterable<{ event?: Event | undefined }>,
  ): Events<Event> {
    return new Events((closing) => this.#follow(resumption, open, closing), signal);
  }

  #follow<Event>(
    resumption: Resumption<Event>,
    open: (signal: AbortSignal) => AsyncIterable<{ event?: Event | undefined }>,
    closing: AbortSignal,
  ): AsyncGenerator<Event, void, void> {
    return follow({ resumption, open, closing, timing: this.#timing, silence: this.#silence });
  }

  #retry(timeout?: number): Retry {
    return new Retry({ patience: this.#options.patience ?? 10, timeout }, this.#timing);
  }

  /** Returns the calls of a service: those that answer once throw ColloquyError, and are repeated. */
  #repeating<Service extends DescService>(service: Service, transport: Transport): Client<Service> {
    const client = createServiceClient(service, transport) as Record<string, Unary>;
    for (const { name, localName, methodKind } of service.methods) {
      const call = client[localName];
      if (methodKind !== "unary" || !call) continue;
      client[localName] = (request, options = {}) =>
        this.#repeat((attempt) => call(request, attempt), options, !UNREPEATABLE.has(name));
    }
    return client as Client<Service>;
  }

  async #repeat(
    call: (options: CallOptions) => Promise<unknown>,
    options: CallOptions,
    isRepeatable: boolean,
  ): Promise<unknown> {
    const { signal = new AbortController().signal, timeoutMs } = options;
    const retry = this.#retry(timeoutMs ? timeoutMs / 1000 : (this.#options.timeout ?? 20));
    for (;;) {
      signal.throwIfAborted();
      let failure: ColloquyError;
      try {
        return await call({ ...options, timeoutMs: Math.ceil((retry.remaining ?? 0) * 1000) || 1 });
      } catch (thrown) {
        signal.throwIfAborted();
        failure = toColloquyError(thrown);
      }
      if (!isRepeatable) throw failure;
      await this.#timing.sleep(retry.backoff(failure), signal);
    }
  }
}

/** A call that answers once, whichever it is. */
type Unary = (request: unknown, options?: CallOptions) => Promise<unknown>;
