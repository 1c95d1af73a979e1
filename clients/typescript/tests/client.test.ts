import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import {
  Code,
  ColloquyError,
  CreateConversationRequestSchema,
  CreateConversationResponseSchema,
  createClient,
} from "../src/index.ts";
import type { ClientOptions, ColloquyClient } from "../src/index.ts";

/** Waits for nobody. */
const timing = { clock: () => 0, random: () => 0, sleep: () => Promise.resolve() };

/** A request that came. */
interface Request {
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Has a server for as long as `run` takes, which answers each request as the next of `answers`. */
async function served(
  answers: ((response: ServerResponse) => void)[],
  run: (client: ColloquyClient, requests: Request[]) => Promise<void>,
  options: ClientOptions = {},
): Promise<void> {
  const requests: Request[] = [];
  const server = createServer((request, response) => {
    const chunks: Uint8Array[] = [];
    request.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    request.on("end", () => {
      const { url = "", headers } = request;
      requests.push({ url, headers, body: new Uint8Array(Buffer.concat(chunks)) });
      (answers.shift() ?? refuse(500, {}))(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const baseUrl = `http://127.0.0.1:${port}`;
    await run(createClient({ baseUrl, apiKey: "clq_key", timing, ...options }), requests);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function refuse(status: number, body: object): (response: ServerResponse) => void {
  return (response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
}

function made(response: ServerResponse): void {
  const answer = create(CreateConversationResponseSchema, { conversation: { id: "c" } });
  response.writeHead(200, { "content-type": "application/proto" });
  response.end(toBinary(CreateConversationResponseSchema, answer));
}

const AWAY = refuse(503, { code: "unavailable", message: "starting" });

test("a call is repeated under one name while the server is away", async () => {
  await served([AWAY, AWAY, made], async (client, requests) => {
    const { conversation } = await client.conversations.createConversation({ title: "Numbers" });
    assert.equal(conversation?.id, "c");
    const asked = requests.map(({ body }) => fromBinary(CreateConversationRequestSchema, body));
    assert.equal(asked.length, 3);
    assert.equal(new Set(asked.map(({ requestId }) => requestId)).size, 1);
    assert.ok(asked[0]?.requestId);
    assert.equal(asked[0].title, "Numbers");
    assert.equal(requests[0]?.headers.authorization, "Bearer clq_key");
  });
});

test("a call that would do something else the second time is not repeated", async () => {
  await served([AWAY], async (client, requests) => {
    await assert.rejects(client.admin.createApiKey({ name: "bot" }), /starting/);
    assert.equal(requests.length, 1);
  });
});

test("a refusal is no reason to call again", async () => {
  const answer = refuse(403, { code: "permission_denied", message: "not for you" });
  await served([answer], async (client, requests) => {
    await assert.rejects(
      client.conversations.listModels({}),
      (error) => error instanceof ColloquyError && error.code === Code.PermissionDenied,
    );
    assert.equal(requests.length, 1);
  });
});

test("an aborted call throws the signal's reason", async () => {
  await served([], async (client, requests) => {
    const signal = AbortSignal.abort(new Error("enough"));
    await assert.rejects(client.conversations.listModels({}, { signal }), /enough/);
    assert.equal(requests.length, 0);
  });
});

test("a file is uploaded as it is", async () => {
  const attachment = { id: "f", filename: "Grüße & more.txt", byteSize: "300000" };
  await served([refuse(200, attachment)], async (client, requests) => {
    const bytes = new Uint8Array(300_000).fill(7);
    const steps: number[] = [];
    const file = new File([bytes], "Grüße & more.txt", { type: "text/plain" });
    const found = await client.uploadFile(file, {
      onProgress: (sent, total) => {
        assert.equal(total, 300_000);
        steps.push(sent);
      },
    });
    assert.equal(found.byteSize, 300_000n);
    assert.equal(steps.at(-1), 300_000);
    const [request] = requests;
    assert.equal(request?.url, "/files?filename=Gr%C3%BC%C3%9Fe%20%26%20more.txt");
    assert.equal(request.headers["content-type"], "text/plain");
    assert.equal(request.headers.authorization, "Bearer clq_key");
    assert.deepEqual(request.body, bytes);
  });
});

test("a file that is refused says why, whoever refuses it", async () => {
  const refusal = { code: "invalid_argument", message: "an empty file" };
  const proxy = (response: ServerResponse): void => {
    response.writeHead(413).end("<html>too large</html>");
  };
  await served([refuse(400, refusal), proxy], async (client) => {
    const file = new Blob(["x"]);
    await assert.rejects(
      client.uploadFile(file),
      (error) =>
        error instanceof ColloquyError &&
        error.code === Code.InvalidArgument &&
        error.message === "an empty file",
    );
    await assert.rejects(client.uploadFile(file), /the server answered 413/);
  });
});

test("an upload that is aborted throws the signal's reason", async () => {
  const controller = new AbortController();
  const abort = (): void => {
    controller.abort(new Error("enough"));
  };
  await served([abort], async (client) => {
    await assert.rejects(
      client.uploadFile(new Blob(["x"]), { signal: controller.signal }),
      /enough/,
    );
  });
});
