import { router } from "../router.svelte.ts";
import { searchPath } from "../routing.ts";

class Finder {
  #query = $state("");

  /** What is looked for; empty to see the list. */
  get query(): string {
    return this.#query;
  }

  /** Where the index is all that one looks at, the address says what is looked for. */
  set query(query: string) {
    this.#query = query;
    const at = router.route.name;
    if (at !== "index" && at !== "search") return;
    router.go(query === "" ? "/" : searchPath(query), { replace: true });
  }

  /** Puts the keyboard into the search. */
  focus(): void {
    document.getElementById("search")?.focus();
  }
}

/** The search of the index. */
export const finder = new Finder();
