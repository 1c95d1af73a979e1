import { texts } from "../texts/en.ts";

/** Characters, as the API counts them. */
const TITLE = 255;
/** Bytes of UTF-8. */
const SYSTEM_PROMPT = 262_144;

/** Says what is wrong with a title; undefined when nothing is. */
export function titleProblem(title: string): string | undefined {
  return Array.from(title).length > TITLE ? texts.dialogs.titleTooLong : undefined;
}

/** Says what is wrong with a system prompt; undefined when nothing is. */
export function systemPromptProblem(prompt: string): string | undefined {
  const size = new TextEncoder().encode(prompt).byteLength;
  return size > SYSTEM_PROMPT ? texts.dialogs.systemPromptTooLong : undefined;
}
