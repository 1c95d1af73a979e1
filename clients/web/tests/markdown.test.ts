/** Markdown as nodes: what texts become, what they can never become, and what a delta costs. */

import "./dom.ts";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

import { forbidden } from "./allowed.ts";
import { chance, pieces, textOf } from "./fuzz.ts";

const { build } = await import("../src/markdown/build.ts");
const { parseReply, parsePerson, references } = await import("../src/markdown/parser.ts");
const { MarkdownStream } = await import("../src/markdown/stream.ts");
const { saysHost, safeLink } = await import("../src/markdown/links.ts");

const { loadFormulas } = await import("../src/markdown/formula.ts");

await loadFormulas();

const HOSTILE = JSON.parse(
  readFileSync(new URL("hostile.json", import.meta.url), "utf-8"),
) as string[];

const SAMPLE_TEXTS = [
  "# A\n\ntext *a*\n\n- a\n- b\n  - c\n\n1. x\n2. y\n\n> q\n\n| a |\n|---|\n| 1 |\n\n```js\nx\n```\n\nend",
  "a\n---\nb\n***\nc\n- d\n* e\n+ f\n1) g\n1. h\n",
  "- a\n\n  b\n- c\n\n      code\n\nd\n",
];

/** Shows a text that is there as a whole. */
function whole(text: string): HTMLElement {
  return grown([text]);
}

/** Shows a text that comes in pieces. */
function grown(parts: string[]): HTMLElement {
  const place = document.createElement("div");
  const stream = new MarkdownStream(place);
  for (const part of parts) {
    stream.append(part);
    stream.render();
  }
  stream.finish();
  return place;
}

/** A text in pieces of a character each. */
function letters(text: string): string[] {
  return Array.from(text);
}

/** Shows a text by a parser and the builder alone. */
function plain(text: string): HTMLElement {
  const place = document.createElement("div");
  const work = { nodes: 0, characters: 0 };
  place.append(...build(parseReply(text, references()), work, true));
  return place;
}

function person(text: string): HTMLElement {
  const place = document.createElement("div");
  place.append(...build(parsePerson(text), { nodes: 0, characters: 0 }, true));
  return place;
}

/** HTML without the attributes that all blocks have, and formulas as their source. */
function html(place: HTMLElement): string {
  return place.innerHTML
    .replace(/<math.*?<annotation[^>]*>(.*?)<\/annotation>.*?<\/math>/gs, "TeX: $1")
    .replace(/ (?:dir|rel|target)="[^"]*"/g, "");
}

await suite("hostile texts", async () => {
  assert.ok(HOSTILE.length >= 60);
  for (const text of HOSTILE) {
    await test(JSON.stringify(text), () => {
      assert.deepEqual(forbidden(whole(text)), []);
      assert.deepEqual(forbidden(grown(letters(text))), []);
      assert.deepEqual(forbidden(person(text)), []);
      // Also in the middle of what a list, a quote and a table hold.
      const line = text.replaceAll("\n", " ");
      assert.deepEqual(
        forbidden(whole(`- a\n- ${line}\n\n> ${line}\n\n|a|\n|-|\n|${line}|\n`)),
        [],
      );
    });
  }
  await test("HTML is shown as text", () => {
    assert.equal(whole("<b>x</b>").textContent, "<b>x</b>");
    assert.equal(person("<b>x</b>").textContent, "<b>x</b>");
  });
  await test("a link says where it leads", () => {
    for (const [text, host] of [
      ["[https://bank.example](https://elsewhere.invalid/)", "elsewhere.invalid"],
      ["[bank.example](https://bаnk.example/)", "xn--bnk-6cd.example"],
      ["[b](https://bank.example:password@elsewhere.invalid/)", "elsewhere.invalid"],
      ["[bank.example\u2066](https://elsewhere.invalid/)", "elsewhere.invalid"],
    ] as const) {
      assert.equal(whole(text).querySelector(".host")?.textContent, host, text);
    }
    assert.equal(whole("https://example.org/a").querySelector(".host"), null);
    const login = whole("<https://bank.example@elsewhere.invalid/>");
    assert.equal(login.querySelector("a")?.getAttribute("href"), "https://elsewhere.invalid/");
    assert.equal(login.querySelector(".host")?.textContent, "elsewhere.invalid");
  });
  await test("what a link's text says counts only when it is all there is", () => {
    assert.ok(saysHost("https://example.org/a?b#c", "example.org"));
    assert.ok(saysHost("example.org", "www.example.org"));
    for (const words of [
      "see example.org",
      "example.org.evil.example",
      "example.org@evil",
      "exаmple.org",
      "a/example.org",
    ]) {
      assert.ok(!saysHost(words, "example.org"), words);
    }
    assert.equal(safeLink("https:/\\example.org")?.host, "example.org");
  });
  await test("direction controls are seen in code and gone from links", () => {
    assert.match(whole("`a\u202eb`").textContent, /a⟨U\+202E⟩b/);
    assert.match(whole("```\na\u2066b\n```").textContent, /a⟨U\+2066⟩b/);
    assert.equal(whole("[a\u202eb](https://e.org)").querySelector("bdi")?.textContent, "ab");
  });
  await test("pictures: ours are shown, those of others are links", () => {
    const own = "/files/01890a5d-ac96-774b-bcce-b302099a8057";
    assert.equal(whole(`![a](${own})`).querySelector("img")?.getAttribute("src"), own);
    const other = whole("![a](https://e.org/p.png)");
    assert.equal(other.querySelector("img"), null);
    assert.equal(other.querySelector("a bdi")?.textContent, "Picture: a");
  });
});

await suite("samples", async () => {
  const SAMPLES: [string, string][] = [
    ["a *b* **c** ~~d~~ `e`", "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e</code></p>"],
    ["# A\n## B\n###### C", "<h3>A</h3><h4>B</h4><h6>C</h6>"],
    ["A\n=\nB\n-", "<h3>A</h3><h4>B</h4>"],
    ["a  \nb\\\nc\nd", "<p>a<br>b<br>c\nd</p>"],
    ["- a\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"],
    ["- a\n\n- b", '<ul class="loose"><li><p>a</p></li><li><p>b</p></li></ul>'],
    ["3. a\n4. b", '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'],
    ["- a\n  1. b", "<ul><li><p>a</p><ol><li><p>b</p></li></ol></li></ul>"],
    ["> a\n> - b", "<blockquote><p>a</p><ul><li><p>b</p></li></ul></blockquote>"],
    ["***", "<hr>"],
    ["&copy; \\* &#35;", "<p>© * #</p>"],
    ["snake_case_word 2*3*4", "<p>snake_case_word 2<em>3</em>4</p>"],
    ["from $5 to $10", "<p>from $5 to $10</p>"],
    [
      "$x$ and \\(y\\)",
      '<p><span class="math">TeX: x</span> and <span class="math">TeX: y</span></p>',
    ],
    ["$$\na\nb\n$$", '<div class="math math-display">TeX: a\nb</div>'],
    ["\\[ x \\]", '<div class="math math-display">TeX: x</div>'],
    ["not. a.link www", "<p>not. a.link www</p>"],
  ];
  for (const [text, expected] of SAMPLES) {
    await test(JSON.stringify(text), () => {
      assert.equal(html(whole(text)), expected);
    });
  }
  await test("tables", () => {
    const table = whole("| a | b |\n|:-:|--:|\n| 1 | `2|` \\| |\n\nafter");
    assert.deepEqual(
      [...table.querySelectorAll("th, td")].map((cell) => [cell.className, cell.textContent]),
      [
        ["align-middle", "a"],
        ["align-end", "b"],
        ["align-middle", "1"],
        ["align-end", "`2"],
      ],
    );
    assert.equal(table.lastElementChild?.textContent, "after");
  });
  await test("task lists", () => {
    const boxes = [...whole("- [ ] a\n- [x] b\n- [y] c").querySelectorAll("input")];
    assert.deepEqual(
      boxes.map((box) => box.hasAttribute("checked")),
      [false, true],
    );
    assert.ok(boxes.every((box) => box.hasAttribute("disabled")));
  });
  await test("code has its language, and all of its lines", () => {
    const code = whole("```Python title=x\na\n\n  b\n```\n\n    c\n");
    assert.deepEqual(
      [...code.querySelectorAll(".code-head span")].map((one) => one.textContent),
      ["python", "Code"],
    );
    assert.deepEqual(
      [...code.querySelectorAll("code")].map((one) => one.textContent),
      ["a\n\n  b\n", "c\n"],
    );
  });
  await test("what people write stays as they typed it", () => {
    assert.equal(html(person("# a *b*\n1. c  d\n__init__")), "<p># a *b*\n1. c  d\n__init__</p>");
    assert.equal(
      person("see https://e.org/x").querySelector("a")?.getAttribute("href"),
      "https://e.org/x",
    );
    assert.equal(person("```js\nx\n```").querySelector("code")?.textContent, "x\n");
  });
  await test("a paragraph that is very long is shown as it stands", () => {
    const text = `*a* ${"word ".repeat(10_000)}`;
    assert.equal(whole(text).querySelector("em"), null);
    assert.equal(whole(text).textContent, text.trim());
  });
});

await suite("streams", async () => {
  await test("however a text is split, it becomes what it is as a whole", () => {
    for (let seed = 1; seed <= 500; seed += 1) {
      const random = chance(seed);
      const text = textOf(random, 3 + Math.floor(random() * 25));
      const expected = whole(text).innerHTML;
      assert.equal(
        grown(pieces(random, text)).innerHTML,
        expected,
        `seed ${seed}: ${JSON.stringify(text)}`,
      );
    }
  });
  await test("cut or not, a text becomes what the parser makes of it", () => {
    for (const text of SAMPLE_TEXTS)
      assert.equal(grown(letters(text)).innerHTML, plain(text).innerHTML);
  });
  await test("links that are defined at the end work in the blocks above", () => {
    const text =
      "see [a]\n\n- [b]\n- [a]\n\n| x |\n|---|\n| [b] |\n\n# End\n\n[a]: https://e.org/a\n[b]: https://e.org/b\n";
    const hrefs = (place: HTMLElement): unknown[] =>
      [...place.querySelectorAll("a")].map((one) => one.getAttribute("href"));
    const expected = ["a", "b", "a", "b"].map((name) => `https://e.org/${name}`);
    assert.deepEqual(hrefs(whole(text)), expected);
    assert.deepEqual(hrefs(grown(letters(text))), expected);
  });

  const GROWING: [string, string, (index: number) => string][] = [
    ["paragraphs", "", (index) => `Some **bold** words, number ${index}.\n\n`],
    ["a list", "", (index) => `- item ${index} with \`code\`\n`],
    ["a list with numbers", "", (index) => `${index + 1}. item\n\n`],
    ["a table", "| a | b |\n|---|---|\n", (index) => `| ${index} | x |\n`],
    ["code", "```py\n", (index) => `print(${index})\n`],
  ];
  for (const [name, head, part] of GROWING) {
    await test(`a delta costs the same however long the text is: ${name}`, () => {
      const place = document.createElement("div");
      const stream = new MarkdownStream(place);
      stream.append(head);
      const costs: number[] = [];
      let before = 0;
      for (let index = 0; index < 2000; index += 1) {
        stream.append(part(index));
        stream.render();
        const { nodes, characters } = stream.work;
        costs.push(nodes + characters - before);
        before = nodes + characters;
      }
      const early = Math.max(...costs.slice(10, 100));
      const late = Math.max(...costs.slice(1900));
      assert.ok(late <= early + 20, `${early} early, ${late} late`);
    });
  }
  await test("finished blocks stay the nodes that they are", () => {
    const place = document.createElement("div");
    const stream = new MarkdownStream(place);
    stream.append("one\n\n- two\n- three\n\nfour\n\nfive");
    stream.render();
    // The last block whose line has ended may change yet, and what comes after it.
    const kept = [...place.querySelectorAll("p, li")].slice(0, -2);
    assert.equal(kept.at(-1)?.textContent, "three");
    for (const text of [" goes on", "\n\nsix\n\n", "| a |\n|---|\n", "| 1 |\n"]) {
      stream.append(text);
      stream.render();
    }
    stream.finish();
    for (const node of kept) assert.ok(place.contains(node), node.textContent);
  });
  await test("what is half written does not look like something else", () => {
    const shown = (text: string): string => {
      const place = document.createElement("div");
      const stream = new MarkdownStream(place);
      stream.append(text);
      stream.render();
      return html(place);
    };
    assert.equal(shown("Steps:\n-"), "<p>Steps:</p>");
    assert.equal(shown("Steps:\n--"), "<p>Steps:</p>");
    assert.equal(shown("a **bold"), "<p>a <strong>bold</strong></p>");
    assert.equal(shown("a `co"), "<p>a <code>co</code></p>");
    assert.equal(shown("see [the page](https://exam"), "<p>see the page</p>");
    assert.equal(shown("a ![pict"), "<p>a pict</p>");
    assert.equal(shown("a\n\n| x | y |\n|--"), "<p>a</p>");
    assert.equal(shown("a\n\n``"), "<p>a</p>");
    assert.match(shown("```py\nx = 1"), /<code><span>x = 1</);
    assert.doesNotMatch(shown("```py\nx\n``"), /``/);
  });
});

await suite("formulas", async () => {
  await test("are drawn as MathML", () => {
    const place = whole("$x^2$\n\n$$\n\\frac{a}{b}\n$$");
    assert.equal(place.querySelectorAll("math").length, 2);
    assert.equal(place.querySelectorAll("msup, mfrac").length, 2);
    assert.deepEqual(forbidden(place), []);
  });
  for (const text of HOSTILE.filter((one) => one.includes("$"))) {
    await test(JSON.stringify(text), () => {
      assert.deepEqual(forbidden(whole(text)), []);
    });
  }
  await test("what is no TeX, or not closed, is shown as it was typed", () => {
    assert.equal(whole("$\\frac{$").textContent, "$\\frac{$");
    assert.equal(whole("$$\na\n\nb").textContent, "$$ab");
  });
});
