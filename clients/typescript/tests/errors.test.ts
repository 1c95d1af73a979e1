import assert from "node:assert/strict";
import { test } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { ColloquyError } from "../src/index.ts";
import { toColloquyError } from "../src/errors.ts";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../src/gen/google/rpc/error_details_pb.ts";

test("an error tells what its details say", () => {
  const error = toColloquyError(
    new ConnectError("later", Code.ResourceExhausted, undefined, [
      { desc: ErrorInfoSchema, value: { reason: "QUOTA", domain: "conversation.v1" } },
      { desc: RetryInfoSchema, value: { retryDelay: { seconds: 2n, nanos: 500_000_000 } } },
      {
        desc: BadRequestSchema,
        value: { fieldViolations: [{ field: "content", description: "is empty" }] },
      },
    ]),
  );
  assert.equal(error.message, "later");
  assert.equal(error.code, Code.ResourceExhausted);
  assert.equal(error.reason, "QUOTA");
  assert.equal(error.retryAfter, 2.5);
  assert.deepEqual(error.fields, { content: "is empty" });
  assert.equal(error.transient, false);
});

test("an error without details, and one that is ours already", () => {
  const error = toColloquyError(new ConnectError("", Code.PermissionDenied));
  assert.equal(error.message, "the call ended with PermissionDenied");
  assert.deepEqual([error.reason, error.fields, error.retryAfter], ["", {}, undefined]);
  assert.equal(toColloquyError(error), error);
});

test("what no server said means that it cannot be reached", () => {
  for (const thrown of [new TypeError("fetch failed"), "missing EndStreamResponse"]) {
    const error = toColloquyError(thrown);
    assert.ok(error instanceof ColloquyError);
    assert.equal(error.code, Code.Unavailable);
    assert.ok(error.transient);
  }
  assert.equal(toColloquyError(new ConnectError("a bug", Code.Unknown)).code, Code.Unknown);
});
