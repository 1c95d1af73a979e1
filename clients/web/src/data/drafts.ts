/** What is written and not sent yet, kept in this browser by user and conversation. */

import { fromJson, toJson, type JsonValue } from "@bufbuild/protobuf";
import { AttachmentSchema, type Attachment } from "@colloquy/client";

import { forgetAll, keep, prefixOf } from "./storage.ts";

/** A message that is being written. */
export interface Draft {
  readonly text: string;
  /** The files of it that are uploaded. */
  readonly attachments: readonly Attachment[];
}

interface Stored {
  readonly text: string;
  readonly attachments: JsonValue[];
}

/** The server keeps a file that no message uses for a day. */
const FILES_LAST = 23 * 60 * 60;

export class Drafts {
  readonly #storage: Storage;
  readonly #prefix: string;
  #isClosed = false;

  constructor(userId: string, storage: Storage = localStorage) {
    this.#storage = storage;
    this.#prefix = prefixOf("draft", userId);
  }

  /** Returns the draft of a conversation, without files that the server has dropped by now. */
  get(conversationId: string, now: number = Date.now()): Draft {
    const text = this.#storage.getItem(this.#prefix + conversationId);
    if (text === null) return { text: "", attachments: [] };
    const stored = JSON.parse(text) as Stored;
    const attachments = stored.attachments.map((one) => fromJson(AttachmentSchema, one));
    const isThere = ({ createTime }: Attachment): boolean =>
      now / 1000 - Number(createTime?.seconds ?? 0n) < FILES_LAST;
    return { text: stored.text, attachments: attachments.filter(isThere) };
  }

  /** Keeps a draft; an empty one is forgotten. */
  keep(conversationId: string, { text, attachments }: Draft): void {
    if (this.#isClosed) return;
    const isEmpty = text === "" && attachments.length === 0;
    const stored: Stored = {
      text,
      attachments: attachments.map((one) => toJson(AttachmentSchema, one)),
    };
    keep(this.#storage, this.#prefix + conversationId, isEmpty ? "" : JSON.stringify(stored));
  }

  /** Forgets all of this user's, who has left: what is still open keeps nothing more. */
  clear(): void {
    this.#isClosed = true;
    forgetAll(this.#storage, this.#prefix);
  }
}
