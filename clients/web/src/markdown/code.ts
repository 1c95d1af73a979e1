/** Blocks of code: the language, a button that copies, and the code, coloured when it is whole. */

import { texts } from "../texts/en.ts";
import { visibleControls } from "./controls.ts";
import { highlight } from "./highlight.ts";

/** How many lines of code share an element: what is longer is laid out piece by piece. */
const PIECE = 100;

/** A block of code that can grow. */
export interface CodeBlock {
  element: HTMLElement;
  /** Appends lines, each with its line feed. */
  append(lines: string): void;
  /** Shows the beginning of a line that is not whole yet, after all others. */
  showRest(rest: string): void;
  /** All of it has come: it is coloured when there is time. */
  finish(): void;
}

/** Returns the language that an info string names, as letters that can be shown; empty for none. */
export function languageOf(info: string): string {
  return /^[\w+#.-]{1,24}/.exec(info.trim())?.[0].toLowerCase() ?? "";
}

function copyButton(content: () => string): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = texts.markdown.copy;
  button.addEventListener("click", () => {
    navigator.clipboard.writeText(content()).then(
      () => {
        button.textContent = texts.markdown.copied;
        setTimeout(() => (button.textContent = texts.markdown.copy), 2000);
      },
      () => (button.textContent = texts.markdown.notCopied),
    );
  });
  return button;
}

/** Makes an empty block of code. */
export function openCodeBlock(info: string): CodeBlock {
  const language = languageOf(info);
  const element = document.createElement("div");
  element.className = "code-block";
  const head = document.createElement("div");
  head.className = "code-head";
  const label = document.createElement("span");
  label.textContent = language === "" ? texts.markdown.code : language;
  const box = document.createElement("pre");
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", texts.markdown.codeIn(language));
  const code = document.createElement("code");
  code.setAttribute("dir", "ltr");
  box.append(code);
  const pieces: string[] = [];
  const rest = document.createElement("span");
  head.append(
    label,
    copyButton(() => pieces.join("") + rest.textContent),
  );
  element.append(head, box);

  let piece: HTMLElement | undefined;
  let lines = 0;
  const append = (text: string): void => {
    pieces.push(text);
    rest.remove();
    for (const line of text.match(/[^\n]*\n|[^\n]+$/g) ?? []) {
      if (piece === undefined || lines === PIECE) {
        piece = document.createElement("span");
        piece.className = "piece";
        code.append(piece);
        lines = 0;
      }
      piece.append(visibleControls(line));
      lines += 1;
    }
    piece?.normalize();
  };
  return {
    element,
    append,
    showRest(text) {
      rest.textContent = visibleControls(text);
      if (text === "") rest.remove();
      else (lines === PIECE || piece === undefined ? code : piece).append(rest);
    },
    finish() {
      rest.remove();
      void highlight(code, visibleControls(pieces.join("")), language);
    },
  };
}

/** Makes a block of the code that a token has; `whole`: no more of it comes. */
export function codeBlock(content: string, info: string, whole: boolean): HTMLElement {
  const block = openCodeBlock(info);
  block.append(content);
  if (whole) block.finish();
  return block.element;
}
