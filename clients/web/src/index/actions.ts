import type { Conversation } from "@colloquy/client";

import { index } from "../data/index.svelte.ts";
import { mayManage } from "../data/rights.ts";
import type { MenuItem } from "../design/Menu.svelte";
import { dialogs } from "../dialogs/opener.svelte.ts";
import { texts } from "../texts/en.ts";

/** What one can do with a conversation from its row. */
export function rowActions(conversation: Conversation): MenuItem[] {
  const { id, pinned, archived } = conversation;
  const items: MenuItem[] = [
    {
      label: texts.index.rename,
      icon: "edit",
      onselect: () => {
        dialogs.open({ name: "rename", conversation });
      },
    },
    {
      label: pinned ? texts.index.unpin : texts.index.pin,
      icon: "pin",
      onselect: () => void index.setPinned(id, !pinned),
    },
    {
      label: archived ? texts.index.unarchive : texts.index.archive,
      icon: "archive",
      onselect: () => void index.setArchived(id, !archived),
    },
  ];
  if (mayManage(conversation)) {
    items.push({
      label: texts.index.delete,
      icon: "trash",
      danger: true,
      onselect: () => {
        dialogs.open({ name: "delete", conversation });
      },
    });
  }
  return items;
}
