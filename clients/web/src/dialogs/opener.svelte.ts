import type { Conversation } from "@colloquy/client";

import type { OpenConversation } from "../data/conversation.svelte.ts";

/** A dialog, and what it is about. */
export type DialogRequest =
  | { name: "new" }
  | { name: "shortcuts" }
  | { name: "usage" }
  | { name: "rename"; conversation: Conversation }
  | { name: "delete"; conversation: Conversation }
  | { name: "participants"; open: OpenConversation }
  | { name: "settings"; open: OpenConversation }
  | { name: "export"; open: OpenConversation };

class Dialogs {
  /** The one that is open. */
  current: DialogRequest | undefined = $state.raw();

  /** Opens a dialog, from any part of the page. */
  open(request: DialogRequest): void {
    this.current = request;
  }

  /** Closes it. */
  close(): void {
    this.current = undefined;
  }
}

/** The page's dialogs: one at a time. */
export const dialogs = new Dialogs();
