import { routeOf, type Route } from "./routing.ts";

class Router {
  /** Where we are. */
  route = $state.raw<Route>(routeOf(new URL(location.href)));

  /** Goes to an address of this origin; `replace`: the one before is not gone back to. */
  go(path: string, { replace = false } = {}): void {
    if (path === location.pathname + location.search + location.hash) return;
    if (replace) history.replaceState(null, "", path);
    else history.pushState(null, "", path);
    this.#read();
  }

  /** Follows the browser's own buttons, and links to the page itself; returns what ends that. */
  start(): () => void {
    const read = (): void => {
      this.#read();
    };
    const follow = (event: MouseEvent): void => {
      this.#follow(event);
    };
    addEventListener("popstate", read);
    document.addEventListener("click", follow);
    return () => {
      removeEventListener("popstate", read);
      document.removeEventListener("click", follow);
    };
  }

  #read(): void {
    this.route = routeOf(new URL(location.href));
  }

  #follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (link === null || link.target !== "" || link.hasAttribute("download")) return;
    const url = new URL(link.href, location.href);
    if (url.origin !== location.origin || routeOf(url).name === "missing") return;
    event.preventDefault();
    this.go(url.pathname + url.search + url.hash);
  }
}

/** The page's router. */
export const router = new Router();
