/** What the user likes, kept in this browser. */

export type Theme = "system" | "light" | "dark";

const KEY = "colloquy:theme";

function stored(): Theme {
  const value = localStorage.getItem(KEY);
  return value === "light" || value === "dark" ? value : "system";
}

class Preferences {
  #theme: Theme = $state(stored());

  constructor() {
    this.#show();
    addEventListener("storage", (event) => {
      if (event.key !== KEY) return;
      this.#theme = stored();
      this.#show();
    });
  }

  /** Light, dark, or what the system says. It is the `data-theme` of the document's root, which
   * has none for `system`. */
  get theme(): Theme {
    return this.#theme;
  }

  set theme(theme: Theme) {
    this.#theme = theme;
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
    this.#show();
  }

  #show(): void {
    const root = document.documentElement;
    if (this.#theme === "system") delete root.dataset["theme"];
    else root.dataset["theme"] = this.#theme;
  }
}

export const preferences = new Preferences();
