/** A conversation as a file. */

import { toJson } from "@bufbuild/protobuf";
import { ConversationSchema, Message_Role, MessageSchema } from "@colloquy/client";
import type { Conversation, Message } from "@colloquy/client";

import { texts } from "../texts/en.ts";

/** A conversation with all its messages. */
export interface Whole {
  readonly conversation: Conversation;
  readonly messages: readonly Message[];
}

/** Returns a Markdown file: what was said, without replies whose place others took. */
export function markdownOf({ conversation, messages }: Whole): Blob {
  const parts = [`# ${conversation.title || texts.data.untitled}\n`];
  for (const message of messages) {
    if (message.superseded) continue;
    const who =
      message.role === Message_Role.ASSISTANT
        ? message.model
        : message.author?.displayName || message.author?.externalId || texts.data.someone;
    const files = message.attachments.map(({ filename }) => `- ${filename}\n`).join("");
    parts.push(`## ${who}\n`, `${message.content}\n`, ...(files === "" ? [] : [files]));
  }
  return new Blob([parts.join("\n")], { type: "text/markdown" });
}

/** Returns a JSON file: everything, as the API's JSON has it. */
export function jsonOf({ conversation, messages }: Whole): Blob {
  const whole = {
    conversation: toJson(ConversationSchema, conversation),
    messages: messages.map((message) => toJson(MessageSchema, message)),
  };
  return new Blob([JSON.stringify(whole, undefined, 2)], { type: "application/json" });
}
