/**
 * Makes one call and says on standard output, a line of JSON each, what came of it; tests of the
 * real server drive it.
 *
 *     node talk.ts '{"baseUrl": …, "apiKey": …, "do": "send", "conversationId": …, "content": …}'
 */

import { toJson } from "@bufbuild/protobuf";

import {
  AttachmentSchema,
  ColloquyError,
  ConversationEventSchema,
  ConversationsEventSchema,
  MessageSchema,
  Message_Role,
  applyEvent,
  createClient,
  emptyConversation,
  isFinal,
} from "../src/index.ts";
import type { ClientOptions, ConversationEvent, Events, Message } from "../src/index.ts";

/** What is to be done, beside how the client is made. */
interface Task extends ClientOptions {
  do: "send" | "watch" | "watchConversations" | "uploadFile" | "listModels";
  conversationId: string;
  content: string;
  /** Repeated by a client of its own under the same name. */
  requestId?: string;
  /** Watching ends with the end of this many replies. */
  replies: number;
}

function say(line: object): void {
  console.log(JSON.stringify(line));
}

/** Says each event, and at the end what the two rules and the deltas alone make of them. */
async function follow(events: Events<ConversationEvent>, enough: number): Promise<void> {
  let state = emptyConversation;
  let ended = 0;
  const joined = new Map<string, string>();
  for await (const event of events) {
    say({ event: toJson(ConversationEventSchema, event) });
    state = applyEvent(state, event);
    if (event.event.case === "delta") {
      const { messageId, attempt, text } = event.event.value;
      const key = `${messageId} ${attempt}`;
      joined.set(key, (joined.get(key) ?? "") + text);
    }
    if (event.event.case === "message" && isReplyToTheEnd(event.event.value)) ended++;
    if (ended === enough) break;
  }
  const messages = state.messages.map(({ message, text, length }) => {
    return {
      ...told(message),
      text,
      length,
      joined: joined.get(`${message.id} ${message.attempt}`),
    };
  });
  say({ messages, deleted: state.deleted });
}

function isReplyToTheEnd(message: Message): boolean {
  return message.role === Message_Role.ASSISTANT && isFinal(message);
}

function told(message: Message): object {
  return toJson(MessageSchema, message) as object;
}

async function main(task: Task): Promise<void> {
  const client = createClient(task);
  const { conversationId, content } = task;
  switch (task.do) {
    case "send": {
      const options = task.requestId === undefined ? {} : { requestId: task.requestId };
      await follow(client.send(conversationId, content, options), Infinity);
      return;
    }
    case "watch":
      await follow(client.watch(conversationId), task.replies);
      return;
    case "watchConversations":
      for await (const event of client.watchConversations()) {
        say({ event: toJson(ConversationsEventSchema, event) });
      }
      return;
    case "uploadFile": {
      const steps: number[] = [];
      const file = new File([content], "Grüße & more.txt", { type: "text/plain" });
      const onProgress = (sent: number): void => void steps.push(sent);
      const attachment = await client.uploadFile(file, { onProgress });
      say({ attachment: toJson(AttachmentSchema, attachment), steps });
      return;
    }
    case "listModels":
      say({ models: (await client.conversations.listModels({})).models.map(({ id }) => id) });
  }
}

// Whoever started this has gone.
process.stdin.on("end", () => process.exit()).resume();
process.stdin.unref();

try {
  await main(JSON.parse(process.argv[2] ?? "") as Task);
} catch (error) {
  if (!(error instanceof ColloquyError)) throw error;
  const { code, reason, fields, message, retryAfter } = error;
  say({ error: { code, reason, fields, message, retryAfter } });
}
