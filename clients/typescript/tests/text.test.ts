import assert from "node:assert/strict";
import { test } from "node:test";

import { codePointLength, withoutFirst } from "../src/text.ts";

const TEXT = "aé€🙂👩‍👧z";

test("code points are counted, not UTF-16 units", () => {
  assert.equal(codePointLength(TEXT), [...TEXT].length);
  assert.equal(codePointLength(""), 0);
});

test("the first code points are left out, never half of one", () => {
  const points = [...TEXT];
  for (let count = 0; count <= points.length + 1; count++) {
    assert.equal(withoutFirst(TEXT, count), points.slice(count).join(""));
  }
});
