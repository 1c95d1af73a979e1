/**
 * Colours for code: Shiki, loaded with the first code that has a language, and each language with
 * the first code in it. Its engine is made of JavaScript's own regular expressions, since the page's
 * policy allows neither WebAssembly nor eval. Colours are classes.
 */

import type { HighlighterCore, LanguageInput, ThemeRegistration } from "shiki/core";

/** How long code may be, in characters, to be coloured. */
const MAX_LENGTH = 60_000;

const LANGUAGES: Record<string, () => LanguageInput> = {
  bash: () => import("shiki/langs/bash.mjs"),
  c: () => import("shiki/langs/c.mjs"),
  cpp: () => import("shiki/langs/cpp.mjs"),
  csharp: () => import("shiki/langs/csharp.mjs"),
  css: () => import("shiki/langs/css.mjs"),
  diff: () => import("shiki/langs/diff.mjs"),
  dockerfile: () => import("shiki/langs/dockerfile.mjs"),
  go: () => import("shiki/langs/go.mjs"),
  html: () => import("shiki/langs/html.mjs"),
  ini: () => import("shiki/langs/ini.mjs"),
  java: () => import("shiki/langs/java.mjs"),
  javascript: () => import("shiki/langs/javascript.mjs"),
  json: () => import("shiki/langs/json.mjs"),
  kotlin: () => import("shiki/langs/kotlin.mjs"),
  makefile: () => import("shiki/langs/makefile.mjs"),
  markdown: () => import("shiki/langs/markdown.mjs"),
  php: () => import("shiki/langs/php.mjs"),
  python: () => import("shiki/langs/python.mjs"),
  ruby: () => import("shiki/langs/ruby.mjs"),
  rust: () => import("shiki/langs/rust.mjs"),
  sql: () => import("shiki/langs/sql.mjs"),
  swift: () => import("shiki/langs/swift.mjs"),
  toml: () => import("shiki/langs/toml.mjs"),
  tsx: () => import("shiki/langs/tsx.mjs"),
  typescript: () => import("shiki/langs/typescript.mjs"),
  xml: () => import("shiki/langs/xml.mjs"),
  yaml: () => import("shiki/langs/yaml.mjs"),
};
const ALIASES: Record<string, string> = {
  "c#": "csharp",
  "c++": "cpp",
  cs: "csharp",
  docker: "dockerfile",
  golang: "go",
  h: "c",
  hpp: "cpp",
  js: "javascript",
  jsonc: "json",
  jsx: "tsx",
  kt: "kotlin",
  make: "makefile",
  md: "markdown",
  mjs: "javascript",
  patch: "diff",
  py: "python",
  python3: "python",
  rb: "ruby",
  rs: "rust",
  sh: "bash",
  shell: "bash",
  svg: "xml",
  ts: "typescript",
  yml: "yaml",
  zsh: "bash",
};

/** What a theme's colours stand for: the classes that `markdown.css` colours. */
const CLASSES: Record<string, string> = {
  "#000001": "code-comment",
  "#000002": "code-string",
  "#000003": "code-keyword",
  "#000004": "code-name",
  "#000005": "code-number",
  "#000006": "code-type",
  "#000007": "code-added",
  "#000008": "code-removed",
};
const THEME: ThemeRegistration = {
  name: "classes",
  type: "light",
  fg: "#000000",
  bg: "#ffffff",
  settings: [
    { settings: { foreground: "#000000", background: "#ffffff" } },
    rule("#000001", "comment", "punctuation.definition.comment"),
    rule("#000002", "string", "markup.inline.raw", "punctuation.definition.string"),
    rule("#000003", "keyword", "storage", "variable.language", "entity.name.tag", "markup.heading"),
    rule("#000004", "entity.name.function", "support.function", "entity.other.attribute-name"),
    rule("#000005", "constant", "support.constant", "constant.character.escape"),
    rule("#000006", "entity.name.type", "entity.name.class", "support.type", "support.class"),
    rule("#000007", "markup.inserted"),
    rule("#000008", "markup.deleted"),
    // Signs between words stay as quiet as the words.
    rule("#000000", "keyword.operator", "punctuation.separator", "meta.embedded"),
  ],
};

function rule(
  foreground: string,
  ...scope: string[]
): { scope: string[]; settings: { foreground: string } } {
  return { scope, settings: { foreground } };
}

let highlighter: Promise<HighlighterCore> | undefined;

async function load(): Promise<HighlighterCore> {
  const [{ createHighlighterCore }, { createJavaScriptRegexEngine }] = await Promise.all([
    import("shiki/core"),
    import("shiki/engine/javascript"),
  ]);
  return createHighlighterCore({
    themes: [THEME],
    langs: [],
    engine: createJavaScriptRegexEngine({ forgiving: true }),
  });
}

/** Milliseconds after which code is coloured though the browser has other things to do. */
const PATIENCE = 1000;

/** Resolves when the browser has nothing better to do. */
function idle(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof requestIdleCallback === "function") {
      requestIdleCallback(
        () => {
          resolve();
        },
        { timeout: PATIENCE },
      );
    } else setTimeout(resolve, 50);
  });
}

/** Colours code in its element when its language is known and it is not too long. What cannot be
 * coloured, also because the network is gone, stays as it is. */
export async function highlight(place: Element, code: string, language: string): Promise<void> {
  const name = ALIASES[language] ?? language;
  const grammar = Object.hasOwn(LANGUAGES, name) ? LANGUAGES[name] : undefined;
  if (grammar === undefined || code.length > MAX_LENGTH) return;
  try {
    const shiki = await (highlighter ??= load());
    await shiki.loadLanguage(grammar());
    await idle();
    const lines = shiki.codeToTokensBase(code.replace(/\n$/, ""), {
      lang: name,
      theme: "classes",
      tokenizeMaxLineLength: 2000,
      // None: on a machine that is busy, the first line alone takes longer than any good one.
      tokenizeTimeLimit: 0,
    });
    place.replaceChildren(...lines.flatMap((line) => [...line.map(coloured), "\n"]));
  } catch {
    highlighter = undefined;
  }
}

function coloured(token: { content: string; color?: string }): Node | string {
  const name = CLASSES[token.color?.toLowerCase() ?? ""];
  if (name === undefined) return token.content;
  const span = document.createElement("span");
  span.className = name;
  span.textContent = token.content;
  return span;
}
