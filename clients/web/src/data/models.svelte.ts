/** The models that conversations can choose. */

import type { Model } from "@colloquy/client";

import { client } from "./api.ts";
import { session } from "./session.svelte.ts";

class Models {
  /** All of the catalogue; those that are not `available` can be shown, not chosen. */
  all: Model[] = $state.raw([]);
  /** What new conversations get; empty when none is available. */
  defaultId = $state("");
  #loading: Promise<void> | undefined;

  /** Loads them unless they are there. Throws ColloquyError. */
  load(): Promise<void> {
    this.#loading ??= this.#load().catch((error: unknown) => {
      this.#loading = undefined;
      throw error;
    });
    return this.#loading;
  }

  get(id: string): Model | undefined {
    return this.all.find((model) => model.id === id);
  }

  async #load(): Promise<void> {
    const answer = await client.conversations.listModels({});
    this.all = answer.models;
    this.defaultId = answer.defaultModel;
  }
}

export const models = new Models();

session.onSignedIn(() => {
  // Whoever needs them and finds none loads them again, and says so.
  models.load().catch(() => undefined);
});
