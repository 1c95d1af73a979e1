import { ApiKey_Role, type Conversation } from "@colloquy/client";

import { session } from "./session.svelte.ts";

/**
 * Whether the user may change who sees a conversation and what its model is told, and delete it: who
 * made it, an admin or a service. The server decides; this only spares people what it would refuse.
 */
export function mayManage(conversation: Conversation): boolean {
  if (session.role === ApiKey_Role.ADMIN || session.role === ApiKey_Role.SERVICE) return true;
  return conversation.creator !== undefined && conversation.creator.id === session.user?.id;
}
