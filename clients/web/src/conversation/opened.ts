import type { OpenConversation } from "../data/conversation.svelte.ts";
import type { Message } from "@colloquy/client";

/** What the parts of an open conversation share. */
export interface Opened {
  readonly open: OpenConversation;
  /** Puts a text into the input, to be changed and sent as new. */
  write(text: string): void;
  /** Says something to screen readers. */
  announce(text: string): void;
  /** The address of a message. */
  linkTo(message: Message): string;
}
