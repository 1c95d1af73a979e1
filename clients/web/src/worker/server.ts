/** The server, as the hub needs it. */

import { createClient } from "@colloquy/client";

import { Hub, type Server } from "./hub.ts";
import { INDEX } from "./protocol.ts";

/** Makes a hub whose server is the one that this script came from. */
export function createHub(): Hub {
  const client = createClient({ baseUrl: location.origin, fetch: noting });
  const server: Server = {
    watch: (target, resumeToken, signal) =>
      target === INDEX
        ? client.watchConversations({ resumeToken, signal })
        : client.watch(target, { resumeToken, signal }),
    markRead: (conversationId, messageId) =>
      client.conversations.markRead({ conversationId, messageId }),
  };
  const hub = new Hub(server);
  return hub;

  /** Tells the hub what becomes of connections. A body that breaks is followed by a new request. */
  async function noting(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    try {
      const response = await fetch(input, init);
      hub.noteConnection(response.status < 500);
      return response;
    } catch (error) {
      if (!init?.signal?.aborted) hub.noteConnection(false);
      throw error;
    }
  }
}
