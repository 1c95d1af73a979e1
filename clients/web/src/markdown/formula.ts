/**
 * Formulas: KaTeX, loaded with the first one, makes MathML of them, which browsers draw themselves:
 * no fonts, no style attributes. Until then, and when it is no TeX, the source is shown.
 */

import type katex from "katex";

import { UNENDED } from "./math.ts";
import type { Token } from "./parser.ts";

/** How long TeX may be, in characters, to be drawn. */
const MAX_LENGTH = 4000;
/** How many drawn formulas are kept: the one that is being written is drawn in each frame. */
const MAX_KEPT = 200;

let engine: typeof katex | undefined;
let loading: Promise<void> | undefined;
const kept = new Map<string, Node | undefined>();

/** Loads what draws formulas, unless it is there. */
export function loadFormulas(): Promise<void> {
  return (loading ??= load());
}

async function load(): Promise<void> {
  try {
    engine = (await import("katex")).default;
  } catch {
    loading = undefined; // the network is gone: the next formula tries again
  }
}

/** Returns the formula of a token. */
export function formula({ content: tex, block: display, markup, map, info }: Token): HTMLElement {
  const element = document.createElement(map === null ? "span" : "div");
  element.className = display ? "math math-display" : "math";
  element.setAttribute("dir", "ltr");
  const drawable = tex.length <= MAX_LENGTH && info !== UNENDED;
  if (drawable && draw(element, tex, display)) return element;
  const close = { "\\(": "\\)", "\\[": "\\]" }[markup] ?? markup;
  element.textContent = `${markup}${tex}${info === UNENDED ? "" : close}`;
  if (drawable && engine === undefined) {
    void loadFormulas().then(() => draw(element, tex, display));
  }
  return element;
}

function draw(element: HTMLElement, tex: string, display: boolean): boolean {
  if (engine === undefined) return false;
  const key = `${display ? "d" : "i"}${tex}`;
  if (!kept.has(key)) {
    if (kept.size >= MAX_KEPT) kept.clear();
    kept.set(key, drawn(engine, tex, display));
  }
  const node = kept.get(key);
  if (node === undefined) return false;
  element.replaceChildren(node.cloneNode(true));
  return true;
}

function drawn(engine: typeof katex, tex: string, display: boolean): Node | undefined {
  const place = document.createElement("span");
  try {
    engine.render(tex, place, {
      displayMode: display,
      output: "mathml",
      throwOnError: true,
      trust: false,
      strict: "ignore",
      maxExpand: 200,
      maxSize: 20,
    });
  } catch {
    return undefined;
  }
  // Colours and the like come as style attributes, which neither the policy nor we allow.
  for (const one of place.querySelectorAll("[style]")) one.removeAttribute("style");
  return place.querySelector("math") ?? undefined;
}
