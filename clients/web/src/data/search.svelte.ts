/** Messages that were found, newest first. */

import type { SearchMessagesResponse_Hit } from "@colloquy/client";

import { client } from "./api.ts";
import { sentenceOf } from "./errors.ts";

export class Search {
  hits: SearchMessagesResponse_Hit[] = $state.raw([]);
  hasMore = $state(false);
  state: "loading" | "ready" | "failed" = $state("loading");
  /** A sentence when it failed. */
  error = $state("");
  readonly query: string;
  #token = "";
  #loading: Promise<void> | undefined;

  /** Begins at once. */
  constructor(query: string) {
    this.query = query;
    void this.more();
  }

  /** Loads the next page, or the first one again that failed. */
  more(): Promise<void> {
    this.#loading ??= this.#load().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #load(): Promise<void> {
    this.state = "loading";
    try {
      const answer = await client.conversations.searchMessages({
        query: this.query,
        pageToken: this.#token,
      });
      this.#token = answer.nextPageToken;
      this.hasMore = answer.nextPageToken !== "";
      this.hits = [...this.hits, ...answer.hits];
      this.state = "ready";
    } catch (thrown) {
      this.error = sentenceOf(thrown);
      this.state = "failed";
    }
  }
}
