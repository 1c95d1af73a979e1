import { dialogs } from "../dialogs/opener.svelte.ts";
import { finder } from "../index/finder.svelte.ts";
import { index } from "../data/index.svelte.ts";
import { router } from "../router.svelte.ts";
import { conversationPath } from "../routing.ts";
import { texts } from "../texts/en.ts";

/** Something that a key does. */
export interface Shortcut {
  /** As KeyboardEvent.key names them, in the order in which they are pressed. */
  keys: readonly string[];
  label: string;
}

const IS_APPLE = /Mac|iPhone|iPad/u.test(navigator.userAgent);
const COMMAND = IS_APPLE ? "Meta" : "Control";

function step(by: 1 | -1): void {
  const all = [...index.pinned, ...index.recent];
  const { route } = router;
  const at = route.name === "conversation" ? all.findIndex((one) => one.id === route.id) : -1;
  const next = all[at < 0 ? 0 : at + by];
  if (next !== undefined) router.go(conversationPath(next.id));
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(?:INPUT|TEXTAREA|SELECT)$/u.test(target.tagName))
  );
}

/** Those that work wherever the keyboard is. */
const ANYWHERE: readonly (Shortcut & { run: () => void })[] = [
  {
    keys: ["?"],
    label: texts.shortcuts.help,
    run: () => {
      dialogs.open({ name: "shortcuts" });
    },
  },
  {
    keys: [COMMAND, "k"],
    label: texts.shortcuts.search,
    run: () => {
      showIndex();
      finder.focus();
    },
  },
  {
    keys: [COMMAND, "Shift", "o"],
    label: texts.shortcuts.newConversation,
    run: () => {
      dialogs.open({ name: "new" });
    },
  },
  {
    keys: ["Alt", "ArrowUp"],
    label: texts.shortcuts.previous,
    run: () => {
      step(-1);
    },
  },
  {
    keys: ["Alt", "ArrowDown"],
    label: texts.shortcuts.next,
    run: () => {
      step(1);
    },
  },
];

/** On a phone the index is a screen of its own. */
function showIndex(): void {
  if (document.getElementById("search")?.checkVisibility() === false) router.go("/");
}

/** All shortcuts, by where they work: what the dialog lists. */
export const shortcutGroups: readonly { heading: string; shortcuts: readonly Shortcut[] }[] = [
  { heading: texts.shortcuts.anywhere, shortcuts: ANYWHERE },
  {
    heading: texts.shortcuts.inList,
    shortcuts: [
      { keys: ["ArrowUp", "ArrowDown"], label: texts.shortcuts.move },
      { keys: ["Home", "End"], label: texts.shortcuts.ends },
      { keys: ["Enter"], label: texts.shortcuts.open },
      { keys: ["F2"], label: texts.shortcuts.rename },
    ],
  },
  {
    heading: texts.shortcuts.inConversation,
    shortcuts: [
      { keys: ["Escape"], label: texts.shortcuts.toInput },
      { keys: ["ArrowUp", "ArrowDown"], label: texts.shortcuts.moveMessages },
    ],
  },
  {
    heading: texts.shortcuts.inComposer,
    shortcuts: [
      { keys: ["Enter"], label: texts.shortcuts.send },
      { keys: ["Shift", "Enter"], label: texts.shortcuts.newLine },
    ],
  },
];

function isPressed(event: KeyboardEvent, keys: readonly string[]): boolean {
  const has = (name: string): boolean => keys.includes(name);
  if (event.key.toLowerCase() !== keys.at(-1)?.toLowerCase()) return false;
  // Which keys make a `?` depends on the keyboard.
  if (keys.length === 1) return !event.ctrlKey && !event.metaKey && !event.altKey;
  return (
    event.ctrlKey === has("Control") &&
    event.metaKey === has("Meta") &&
    event.altKey === has("Alt") &&
    event.shiftKey === has("Shift")
  );
}

/** Does what a key stands for, if it stands for something here. */
export function onShortcut(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing || dialogs.current !== undefined) return;
  const shortcut = ANYWHERE.find(({ keys }) => isPressed(event, keys));
  if (shortcut === undefined) return;
  if (shortcut.keys.length === 1 && isTyping(event.target)) return;
  event.preventDefault();
  shortcut.run();
}
