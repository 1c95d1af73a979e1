import { Message_State, type Attachment, type Message, type User } from "@colloquy/client";

import { BIDI_CONTROLS } from "../markdown/controls.ts";
import { texts } from "../texts/en.ts";

/** What a person is called. */
export function nameOf(user: User | undefined): string {
  const name = user?.displayName || user?.externalId || "";
  return name.replace(BIDI_CONTROLS, "") || texts.conversation.somebody;
}

/** A file's name as it is: no letter in it turns the others round, so that no ending is hidden. */
export function filenameOf(file: Attachment): string {
  return file.filename.replace(BIDI_CONTROLS, "") || texts.conversation.file;
}

/** When a message was added; undefined when that is not known. */
export function timeOf(message: Message): Date | undefined {
  const time = message.createTime;
  return time && new Date(Number(time.seconds) * 1000 + time.nanos / 1e6);
}

/** Tells whether a reply is not at its end. */
export function isLive(message: Message): boolean {
  return message.state === Message_State.QUEUED || message.state === Message_State.GENERATING;
}

/** A reply's text for the ear: without its marks, and not too long. */
export function spoken(text: string): string {
  const plain = text
    .replace(/```[\s\S]*?(?:```|$)/g, ` ${texts.markdown.code}. `)
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[*_`#>|~]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
  return plain.length > MAX_SPOKEN ? `${plain.slice(0, MAX_SPOKEN)} …` : plain;
}

const MAX_SPOKEN = 1000;
