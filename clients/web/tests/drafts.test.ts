/** What is written and not sent stays, each user's and each conversation's for itself. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { AttachmentSchema } from "@colloquy/client";

import { Drafts } from "../src/data/drafts.ts";
import { MemoryStorage } from "./storage.ts";

const nothing = { text: "", attachments: [] };

test("a draft is kept by conversation and user until it is empty", () => {
  const storage = new MemoryStorage();
  const drafts = new Drafts("user", storage);
  drafts.keep("c", { text: "Hello\n", attachments: [] });
  assert.equal(new Drafts("user", storage).get("c").text, "Hello\n");
  assert.deepEqual(drafts.get("d"), nothing);
  assert.deepEqual(new Drafts("other", storage).get("c"), nothing);
  drafts.keep("c", nothing);
  assert.equal(storage.length, 0);
});

test("its files are kept as long as the server keeps them", () => {
  const drafts = new Drafts("user", new MemoryStorage());
  const made = 1_000_000;
  const attachment = create(AttachmentSchema, {
    id: "f",
    byteSize: 5n,
    createTime: { seconds: BigInt(made), nanos: 0 },
  });
  drafts.keep("c", { text: "", attachments: [attachment] });
  assert.deepEqual(drafts.get("c", (made + 3600) * 1000).attachments, [attachment]);
  assert.deepEqual(drafts.get("c", (made + 24 * 3600) * 1000).attachments, []);
});

test("who signs out leaves none, and nobody else's go", () => {
  const storage = new MemoryStorage();
  const drafts = new Drafts("user", storage);
  drafts.keep("c", { text: "mine", attachments: [] });
  drafts.keep("d", { text: "mine", attachments: [] });
  new Drafts("other", storage).keep("c", { text: "theirs", attachments: [] });
  drafts.clear();
  drafts.keep("c", { text: "still open", attachments: [] });
  assert.equal(storage.length, 1);
  assert.equal(new Drafts("other", storage).get("c").text, "theirs");
});
