/** Whether the page hears from the server, for the small notice. */

import { link } from "./api.ts";

export type Status = "online" | "connecting" | "offline";

/** Milliseconds: breaks that are shorter are not worth a word. */
const WORTH_TELLING = 1500;

class Connection {
  /** `connecting` when the server was not heard for more than a moment; `offline` when the browser
   * says that there is no network. */
  status: Status = $state("online");
  /** Whether the server was heard of last. */
  isHeard = true;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waiting: (() => void)[] = [];

  constructor() {
    link.onStatus = (online) => {
      this.isHeard = online;
      this.#update();
    };
    addEventListener("online", () => {
      this.#update();
      this.#wakeAll();
    });
    addEventListener("offline", () => {
      this.#update();
    });
    this.#update();
  }

  /** Waits so many seconds, or until the server or a network is there again. */
  wait(seconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #update(): void {
    clearTimeout(this.#timer);
    if (!navigator.onLine) {
      this.status = "offline";
    } else if (this.isHeard) {
      this.status = "online";
      this.#wakeAll();
    } else if (this.status === "offline") {
      this.status = "connecting";
    } else {
      this.#timer = setTimeout(() => (this.status = "connecting"), WORTH_TELLING);
    }
  }

  #wakeAll(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

export const connection = new Connection();
