/** Files on their way to the server. */

import { Attachment_Kind, toColloquyError, type Attachment } from "@colloquy/client";

import { BIDI_CONTROLS } from "../markdown/controls.ts";
import { texts } from "../texts/en.ts";
import { client } from "./api.ts";
import { sentenceOf } from "./errors.ts";

/** The most files that a message takes. */
export const MAX_FILES = 10;

let limit: Promise<number | undefined> | undefined;

/** How many bytes the server takes; undefined when it does not say: then it refuses by itself. */
function mostBytes(): Promise<number | undefined> {
  limit ??= fetch("/files")
    .then((response) => response.json() as Promise<{ maxBytes?: number }>)
    .then(({ maxBytes }) => maxBytes)
    .catch(() => (limit = undefined));
  return limit;
}

export class Upload {
  /** As the server keeps it: no letter in it turns the others round. */
  readonly filename: string;
  readonly byteSize: number;
  /** What it is to a model, told from what the browser takes it for. */
  readonly kind: Attachment_Kind;
  /** A blob: URL of a picture; empty for other files. */
  readonly previewUrl: string;
  /** 0 to 1. */
  progress = $state(0);
  /** `refused`: it is of no use to try again. */
  state: "waiting" | "uploading" | "done" | "refused" | "failed" = $state("waiting");
  /** A sentence when it is refused or failed. */
  error = $state("");
  attachment: Attachment | undefined = $state.raw();
  /** What is uploaded; undefined for a file that was there before. */
  readonly #file: File | undefined;
  readonly #owner: Uploads;
  #ending = new AbortController();

  constructor(owner: Uploads, file: File | Attachment) {
    this.#owner = owner;
    if (file instanceof File) {
      this.#file = file;
      this.filename = file.name.replace(BIDI_CONTROLS, "");
      this.byteSize = file.size;
      this.kind = kindOf(file.type);
      this.previewUrl = isPreviewed(file.type) ? URL.createObjectURL(file) : "";
      if (this.byteSize === 0) this.#refuse(texts.composer.emptyFile);
    } else {
      this.filename = file.filename;
      this.byteSize = Number(file.byteSize);
      this.kind = file.kind;
      this.previewUrl = isPreviewed(file.contentType) ? `/files/${file.id}` : "";
      this.attachment = file;
      this.progress = 1;
      this.state = "done";
    }
  }

  /** Takes it away, wherever it is. */
  cancel(): void {
    this.#ending.abort();
    this.#owner.take(this);
    this.release();
  }

  /** Tries a failed one again. */
  retry(): void {
    if (this.state !== "failed") return;
    this.error = "";
    this.progress = 0;
    this.state = "waiting";
    this.#owner.next();
  }

  /** Uploads it. */
  async begin(): Promise<void> {
    if (this.#file === undefined) return;
    this.state = "uploading";
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    const maxBytes = await mostBytes();
    if (maxBytes !== undefined && this.byteSize > maxBytes) {
      this.#refuse(texts.composer.fileTooLarge(maxBytes));
      return;
    }
    try {
      this.attachment = await client.uploadFile(this.#file, {
        filename: this.filename,
        signal,
        onProgress: (sent, total) => {
          this.progress = total === 0 ? 0 : sent / total;
        },
      });
      this.progress = 1;
      this.state = "done";
    } catch (thrown) {
      if (signal.aborted) return;
      const error = toColloquyError(thrown);
      this.error = sentenceOf(error);
      this.state = error.reason.startsWith("ATTACHMENT_") ? "refused" : "failed";
    }
  }

  /** Frees what its preview holds. */
  release(): void {
    if (this.previewUrl.startsWith("blob:")) URL.revokeObjectURL(this.previewUrl);
  }

  #refuse(why: string): void {
    this.error = why;
    this.state = "refused";
  }
}

/** The files of the message that is being written. */
export class Uploads {
  all: Upload[] = $state.raw([]);

  /** Adds files and begins to upload them. Returns how many there was no room for. */
  add(files: readonly (File | Attachment)[]): number {
    const taken = files.slice(0, Math.max(0, MAX_FILES - this.all.length));
    this.all = [...this.all, ...taken.map((file) => new Upload(this, file))];
    this.next();
    return files.length - taken.length;
  }

  /** Those that are uploaded. */
  get attachments(): Attachment[] {
    return this.all.flatMap(({ attachment }) => attachment ?? []);
  }

  /** Whether some are on their way. */
  get isBusy(): boolean {
    return this.all.some(({ state }) => state === "waiting" || state === "uploading");
  }

  /** Whether some cannot be sent as they are. */
  get hasFailed(): boolean {
    return this.all.some(({ state }) => state === "refused" || state === "failed");
  }

  /** Uploads the next one, unless one is being uploaded: browsers open few connections. */
  next(): void {
    if (this.all.some(({ state }) => state === "uploading")) return;
    const waiting = this.all.find(({ state }) => state === "waiting");
    void waiting?.begin().then(() => {
      this.next();
    });
  }

  /** Takes one out. */
  take(upload: Upload): void {
    this.all = this.all.filter((one) => one !== upload);
    this.next();
  }

  /** Takes all out: they are sent, or what they were for is gone. */
  clear(): void {
    for (const upload of this.all) upload.release();
    this.all = [];
  }
}

function kindOf(type: string): Attachment_Kind {
  if (type.startsWith("image/")) return Attachment_Kind.IMAGE;
  if (type.startsWith("audio/")) return Attachment_Kind.AUDIO;
  return Attachment_Kind.DOCUMENT;
}

/** Whether browsers show it as a picture. An SVG may be hostile: it is shown as a file. */
function isPreviewed(type: string): boolean {
  return /^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(type);
}
