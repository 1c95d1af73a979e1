/** The outbox and the drafts of the user who is signed in. */

import {
  Code,
  createClient,
  toColloquyError,
  type ConversationEvent_Accepted,
} from "@colloquy/client";

import { link } from "./api.ts";
import { connection } from "./connection.svelte.ts";
import { Drafts } from "./drafts.ts";
import { Outbox, type Entry } from "./outbox.ts";
import { session } from "./session.svelte.ts";

/** Without patience of its own: the outbox has it, and says so. */
const client = createClient({ baseUrl: location.origin, patience: 0 });

let outboxOfUser: Outbox | undefined;
let draftsOfUser: Drafts | undefined;

/** The outbox; there is one while somebody is signed in. */
export function outbox(): Outbox {
  return (outboxOfUser ??= makeOutbox());
}

/** The drafts; there are some while somebody is signed in. */
export function drafts(): Drafts {
  return (draftsOfUser ??= new Drafts(session.user?.id ?? ""));
}

function makeOutbox(): Outbox {
  return new Outbox(session.user?.id ?? "", {
    send,
    wait: (seconds) => connection.wait(seconds),
    tab: link.tab,
    openTabs: () => link.openTabs(),
    storage: localStorage,
  });
}

/** Says something and returns when that is stored. What comes of it the conversation's watch tells. */
async function send(entry: Entry): Promise<ConversationEvent_Accepted> {
  const events = client.send(entry.conversationId, entry.content, {
    requestId: entry.requestId,
    attachmentIds: entry.attachments.map(({ id }) => id),
    onBusy: entry.onBusy,
  });
  try {
    for await (const { event } of events) {
      if (event.case !== "accepted") continue;
      // The server is back before its streams were tried again.
      if (!connection.isHeard) link.say({ type: "wake" });
      return event.value; // the loop is left, and so the call ends
    }
  } catch (thrown) {
    if (toColloquyError(thrown).code === Code.Unauthenticated) void session.end();
    throw thrown;
  }
  throw new Error("a reply ended before it began");
}

session.onSignedIn(() => {
  void outbox().adopt();
});

session.onSignedOut((isForgotten) => {
  if (isForgotten) {
    outbox().clear();
    drafts().clear();
  }
  outbox().close();
  outboxOfUser = draftsOfUser = undefined;
});

// A tab may have gone meanwhile, and left something to send.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && session.state === "signed-in") void outbox().adopt();
});
addEventListener("online", () => {
  if (session.state === "signed-in") void outbox().adopt();
});
