/** What tabs and the hub say to each other. All of it can be cloned from one thread to another. */

import type { Code, ConversationEvent, ConversationsEvent } from "@colloquy/client";

/** What is watched: a conversation by its id, or the index, which is empty. */
export type Target = string;

/** The index of conversations. */
export const INDEX: Target = "";

export type HubEvent = ConversationEvent | ConversationsEvent;

/** Why a watch ended, as a ColloquyError has it. */
export interface Failure {
  readonly message: string;
  readonly code: Code;
  readonly reason: string;
}

/** `subscription` is a number that the tab chose. */
export type ToHub =
  /** From now on all events of the target come. */
  | { readonly type: "join"; readonly subscription: number; readonly target: Target }
  /** Begins the watch of what was joined, unless it runs. */
  | { readonly type: "start"; readonly subscription: number; readonly token: string }
  | { readonly type: "leave"; readonly subscription: number }
  /** Whether the tab can be seen. */
  | { readonly type: "visible"; readonly visible: boolean }
  /** A conversation was read up to a message. */
  | { readonly type: "read"; readonly conversationId: string; readonly messageId: string }
  /** There may have been a sleep, or another network: what is connected may be dead. */
  | { readonly type: "wake" };

export type FromHub =
  /** Whether the target's watch runs: then what is listed from now on joins what is heard. */
  | { readonly type: "joined"; readonly subscription: number; readonly running: boolean }
  /** Whether the watch begins with this token; another tab may have been first. */
  | { readonly type: "started"; readonly subscription: number; readonly first: boolean }
  | { readonly type: "event"; readonly subscription: number; readonly event: HubEvent }
  /** The watch is over: the target is gone, when there is no failure. */
  | {
      readonly type: "ended";
      readonly subscription: number;
      readonly failure: Failure | undefined;
    }
  /** Whether the server is heard. */
  | { readonly type: "status"; readonly online: boolean };
