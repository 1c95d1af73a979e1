/** A message that is being written in a conversation. */

import { OnBusy, type Attachment } from "@colloquy/client";

import { Refused, type OpenConversation } from "../data/conversation.svelte.ts";
import { MAX_FILES, Uploads } from "../data/uploads.svelte.ts";
import { drafts } from "../data/sending.ts";
import { texts } from "../texts/en.ts";

/** Milliseconds after the last key until the draft is kept. */
const KEEP_AFTER = 300;
/** What the server takes. */
const MAX_BYTES = 1 << 20;

export class Composing {
  readonly conversation: OpenConversation;
  readonly uploads = new Uploads();
  /** A sentence about what cannot be sent, or was not. */
  error = $state("");
  /** It is to be sent as soon as its files are uploaded. */
  waitsForFiles = $state(false);
  readonly #drafts = drafts();
  #text = $state("");
  #onBusy: OnBusy = OnBusy.UNSPECIFIED;
  #keeping: ReturnType<typeof setTimeout> | undefined;

  /** Begins with the draft. */
  constructor(conversation: OpenConversation) {
    this.conversation = conversation;
    const draft = this.#drafts.get(conversation.id);
    this.#text = draft.text;
    this.uploads.add(draft.attachments);
  }

  get text(): string {
    return this.#text;
  }

  set text(text: string) {
    this.#text = text;
    this.error = "";
    clearTimeout(this.#keeping);
    this.#keeping = setTimeout(() => {
      this.keepDraft();
    }, KEEP_AFTER);
  }

  get isEmpty(): boolean {
    return this.#text.trim() === "" && this.uploads.all.length === 0;
  }

  /** Adds files, as far as there is room. */
  addFiles(files: readonly File[]): void {
    const left = this.uploads.add(files);
    this.error = left > 0 ? texts.composer.tooManyFiles(MAX_FILES) : "";
  }

  /** Sends it, or says why not. */
  submit(onBusy: OnBusy = OnBusy.UNSPECIFIED): void {
    if (this.isEmpty) return;
    this.error = "";
    this.#onBusy = onBusy;
    if (this.uploads.hasFailed) this.error = texts.composer.filesFailed;
    else if (new TextEncoder().encode(this.#text).length > MAX_BYTES) {
      this.error = texts.composer.tooLong;
    } else if (this.uploads.isBusy) {
      this.waitsForFiles = true;
      return;
    } else {
      void this.#send();
    }
    this.waitsForFiles = false;
  }

  /** Called when an upload ends: what waited for it is sent. */
  filesChanged(): void {
    this.keepDraft();
    if (this.waitsForFiles && !this.uploads.isBusy) this.submit(this.#onBusy);
  }

  /** Keeps what is written so far in this browser. */
  keepDraft(): void {
    clearTimeout(this.#keeping);
    const { attachments } = this.uploads;
    this.#drafts.keep(this.conversation.id, { text: this.#text, attachments });
  }

  /** The view is gone. */
  close(): void {
    this.keepDraft();
    this.uploads.clear();
  }

  async #send(): Promise<void> {
    const { attachments } = this.uploads;
    const text = this.#text;
    // A message without words says what its files are called.
    const content = text.trim() === "" ? attachments.map((one) => one.filename).join(", ") : text;
    const sent = this.conversation.send(content, attachments, { onBusy: this.#onBusy });
    // Before anything else can happen: what is sent is no draft, and is not sent twice.
    this.#text = "";
    this.uploads.clear();
    this.keepDraft();
    try {
      await sent;
    } catch (thrown) {
      if (!(thrown instanceof Refused)) throw thrown;
      this.#takeBack(thrown, text, attachments);
    }
  }

  /** Puts what was refused back, unless something else is being written: then its item keeps it. */
  #takeBack(refused: Refused, text: string, attachments: readonly Attachment[]): void {
    if (!this.isEmpty) return;
    this.conversation.discard(refused.item);
    this.#text = text;
    this.uploads.add(attachments);
    this.error = texts.composer.refused(refused.message);
    this.keepDraft();
  }
}
