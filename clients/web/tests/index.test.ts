/** What the list of conversations is made of: which rows are drawn, what a search finds, and names. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { initials, shade } from "../src/design/avatars.ts";
import { exportName } from "../src/dialogs/saving.ts";
import { pieces, titleMatches } from "../src/index/snippets.ts";
import { movedBy, shownRange } from "../src/index/windowing.ts";
import { conversationPath, routeOf, searchPath } from "../src/routing.ts";
import { deviceName } from "../src/settings/devices.ts";

const ID = "01900000-0000-7000-8000-000000000000";

function route(path: string): ReturnType<typeof routeOf> {
  return routeOf(new URL(path, "http://127.0.0.1:8080"));
}

test("only rows near the view are drawn", () => {
  const list = { top: 100, rowHeight: 50, length: 10_000 };
  assert.deepEqual(shownRange({ top: 0, height: 500 }, list), { start: 0, end: 16 });
  assert.deepEqual(shownRange({ top: 100_100, height: 500 }, list), { start: 1992, end: 2018 });
  assert.deepEqual(shownRange({ top: 499_600, height: 500 }, list), { start: 9982, end: 10_000 });
  assert.deepEqual(shownRange({ top: 0, height: 0 }, { ...list, length: 0 }), { start: 0, end: 0 });
});

test("a list that ends above the view draws nothing", () => {
  const list = { top: 0, rowHeight: 50, length: 10 };
  assert.deepEqual(shownRange({ top: 10_000, height: 500 }, list), { start: 10, end: 10 });
});

test("what one looks at moves with most rows, not with the one that went to the top", () => {
  const now = new Map(["c", "x", "a", "b", "d", "e"].map((id, position) => [id, position]));
  assert.equal(movedBy(["b", "c", "d", "e"], 1, now), 1);
  assert.equal(movedBy([], 0, now), 0);
  assert.equal(movedBy(["gone"], 4, now), 0);
});

test("marks of a snippet become pieces", () => {
  assert.deepEqual(pieces("a «b» <i>c</i> «d»"), [
    { text: "a ", found: false },
    { text: "b", found: true },
    { text: " <i>c</i> ", found: false },
    { text: "d", found: true },
  ]);
  assert.deepEqual(pieces("half «open"), [{ text: "half «open", found: false }]);
});

test("titles are found by beginnings of their words, whatever case and accents", () => {
  assert.ok(titleMatches("Recipes for Émincé", "EMIN rec"));
  assert.ok(titleMatches("سؤال عن التقرير", "التقرير"));
  assert.ok(!titleMatches("Recipes", "recipes soup"));
});

test("addresses", () => {
  assert.deepEqual(route("/"), { name: "index" });
  assert.deepEqual(route(conversationPath(ID)), {
    name: "conversation",
    id: ID,
    messageId: undefined,
  });
  assert.deepEqual(route(conversationPath(ID, "m")), {
    name: "conversation",
    id: ID,
    messageId: "m",
  });
  assert.deepEqual(route(searchPath("a & b?")), { name: "search", query: "a & b?" });
  assert.deepEqual(route("/signin#code=x-1"), { name: "signin", code: "x-1" });
  assert.deepEqual(route("/signin"), { name: "signin", code: undefined });
  for (const path of ["/c/", "/c/nonsense", `/c/${ID}/more`, "/files/1", "/signin/callback"]) {
    assert.deepEqual(route(path), { name: "missing" });
  }
});

test("initials are letters of people's names", () => {
  assert.equal(initials("Ann Baker"), "AB");
  assert.equal(initials("mia@acme.example"), "ME");
  assert.equal(initials("李雷"), "李");
  assert.equal(initials("<script>"), "S");
  assert.equal(initials("— 🙂"), "?");
  assert.equal(shade(ID), shade(ID));
});

test("browsers in words", () => {
  const safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1";
  assert.equal(deviceName(safari), "Safari on iPhone");
  const edge = "Mozilla/5.0 (Windows NT 10.0) Chrome/130.0 Safari/537.36 Edg/130.0";
  assert.equal(deviceName(edge), "Edge on Windows");
  assert.equal(deviceName("curl/8"), "A browser");
});

test("names of exported files fit every system", () => {
  assert.equal(exportName('../a/b: "c"\u202e?', "md"), "a b c.md");
  assert.equal(exportName("...", "json"), "conversation.json");
});
