/** Uploads of files: browsers cannot stream a call's request, so they go over plain HTTP. */

import { fromJson } from "@bufbuild/protobuf";
import type { JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeFromHttpStatus, errorFromJson } from "@connectrpc/connect/protocol-connect";

import { ColloquyError, toColloquyError } from "./errors.ts";
import { AttachmentSchema } from "./gen/conversation/v1/resources_pb.ts";
import type { Attachment } from "./gen/conversation/v1/resources_pb.ts";

/** How a file is uploaded. */
export interface UploadOptions {
  /** The file's name; a File has one. */
  readonly filename?: string;
  /** What it is taken for, if the blob's own type is not right; its bytes decide. */
  readonly contentType?: string;
  /** Hears how many bytes of how many are on their way. */
  readonly onProgress?: (sent: number, total: number) => void;
  /** Ends the upload, which leaves nothing behind. */
  readonly signal?: AbortSignal;
}

/** Where files go, and as whom. */
export interface FileServer {
  readonly baseUrl: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly fetch: typeof globalThis.fetch;
}

/** An answer, whoever fetched it. */
interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Uploads a file and returns what is known of it. Throws ColloquyError. */
export async function uploadFile(
  server: FileServer,
  file: Blob,
  options: UploadOptions,
): Promise<Attachment> {
  options.signal?.throwIfAborted();
  const filename = options.filename ?? (file instanceof File ? file.name : "file");
  const url = `${server.baseUrl.replace(/\/$/, "")}/files?filename=${encodeURIComponent(filename)}`;
  const type = (options.contentType ?? file.type) || "application/octet-stream";
  const headers = { ...server.headers, "content-type": type };
  // Only XMLHttpRequest tells how far it is.
  const post = options.onProgress && "XMLHttpRequest" in globalThis ? postByRequest : postByFetch;
  let answer: Answer;
  try {
    answer = await post(server, url, headers, file, options);
  } catch (thrown) {
    options.signal?.throwIfAborted();
    throw new ColloquyError("the file could not be sent", Code.Unavailable, { cause: thrown });
  }
  if (answer.status !== 200) throw toColloquyError(refusal(answer));
  return fromJson(AttachmentSchema, JSON.parse(answer.text) as JsonValue, {
    ignoreUnknownFields: true,
  });
}

async function postByFetch(
  server: FileServer,
  url: string,
  headers: Record<string, string>,
  file: Blob,
  { signal, onProgress }: UploadOptions,
): Promise<Answer> {
  const body = onProgress ? counted(file, onProgress) : file;
  const init = { method: "POST", headers, body, duplex: "half", ...(signal && { signal }) };
  const response = await server.fetch(url, init);
  return { status: response.status, text: await response.text() };
}

/** Returns the bytes of a file, which say how far they are. */
function counted(file: Blob, onProgress: (sent: number, total: number) => void): ReadableStream {
  let sent = 0;
  return file.stream().pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        controller.enqueue(chunk);
        sent += chunk.byteLength;
        onProgress(sent, file.size);
      },
    }),
  );
}

function postByRequest(
  _server: FileServer,
  url: string,
  headers: Record<string, string>,
  file: Blob,
  { signal, onProgress }: UploadOptions,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", ({ loaded }) => onProgress?.(loaded, file.size));
    request.addEventListener("load", () => {
      resolve({ status: request.status, text: request.responseText });
    });
    const fail = (): void => {
      reject(new Error("the request broke"));
    };
    request.addEventListener("error", fail);
    request.addEventListener("abort", fail);
    signal?.addEventListener("abort", () => {
      request.abort();
    });
    request.send(file);
  });
}

/** Returns the error that an answer tells; one that is no error of ours tells its HTTP status. */
function refusal({ status, text }: Answer): ConnectError {
  const unknown = new ConnectError(`the server answered ${status}`, codeFromHttpStatus(status));
  try {
    return errorFromJson(JSON.parse(text) as JsonValue, undefined, unknown);
  } catch {
    return unknown;
  }
}
