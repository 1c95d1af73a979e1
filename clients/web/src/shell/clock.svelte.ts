import { createSubscriber } from "svelte/reactivity";

const MINUTE = 60_000;

/** The time, for what says how long ago something was: it changes once a minute. */
class Clock {
  #subscribe = createSubscriber((update) => {
    const timer = setInterval(update, MINUTE);
    // A tab that was asleep is told at once.
    document.addEventListener("visibilitychange", update);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", update);
    };
  });

  /** Now; who reads it in a view is called again as time passes. */
  get now(): Date {
    this.#subscribe();
    return new Date();
  }
}

/** The page's clock. */
export const clock = new Clock();
