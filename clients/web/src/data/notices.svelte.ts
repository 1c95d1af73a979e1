/** Short sentences about something that went wrong or was done, which the page shows for a while. */

/** One of them. */
export interface Notice {
  readonly id: number;
  readonly text: string;
  readonly kind: "info" | "error";
}

class Notices {
  /** Oldest first. Whoever shows them calls `dismiss` when they were seen long enough. */
  list: Notice[] = $state.raw([]);
  #next = 1;

  /** Shows a sentence. */
  say(text: string, kind: "info" | "error" = "info"): void {
    this.list = [...this.list, { id: this.#next++, text, kind }];
  }

  /** Takes one away; one that is gone already stays so. */
  dismiss(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }
}

export const notices = new Notices();
