import { sentenceOf } from "../data/errors.ts";

/** Something that a dialog asks the server for: whether it is on its way, and why it was refused. */
export class Action {
  busy = $state(false);
  /** A sentence; empty when nothing went wrong. */
  error = $state("");

  /** Does it, unless it is being done. Returns whether it went well. */
  async run(work: () => Promise<unknown>): Promise<boolean> {
    if (this.busy) return false;
    this.busy = true;
    this.error = "";
    try {
      await work();
      return true;
    } catch (error) {
      this.error = sentenceOf(error);
      return false;
    } finally {
      this.busy = false;
    }
  }
}
