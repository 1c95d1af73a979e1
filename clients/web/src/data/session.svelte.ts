/** Who is signed in, and how one can sign in. */

import {
  Code,
  toColloquyError,
  type ApiKey_Role,
  type Session as SessionMessage,
  type User,
} from "@colloquy/client";

import { texts } from "../texts/en.ts";
import { client } from "./api.ts";
import { ColloquyError } from "./errors.ts";
import { signIn, signInMethods, signOut, type Methods } from "./sign_in.ts";

/** Seconds between tries to find out who is signed in, while the server cannot be reached. */
const AGAIN = 2;

class Session {
  state: "loading" | "signed-out" | "signed-in" = $state("loading");
  user: User | undefined = $state.raw();
  accountName = $state("");
  role: ApiKey_Role | undefined = $state();
  /** The ways in that this server offers; known when the state is `signed-out`. */
  methods: Methods = $state.raw({ apiKey: true, identityProvider: false, link: true });
  readonly #signedIn: (() => void)[] = [];
  readonly #signedOut: ((isForgotten: boolean) => void)[] = [];
  /** What tabs tell each other: that somebody signed in or out. */
  readonly #tabs = new BroadcastChannel("colloquy:session");

  constructor() {
    this.#tabs.onmessage = () => void this.load();
  }

  /** Asks the server who is signed in, until it answers. Called once, when the page starts. */
  async load(): Promise<void> {
    for (;;) {
      try {
        const answer = await client.sessions.getSession({});
        const before = this.user?.id;
        if (before !== undefined && before !== answer.user?.id) {
          location.reload(); // nothing of the one before may stay
          return;
        }
        this.user = answer.user;
        this.accountName = answer.accountName;
        this.role = answer.role;
        if (this.state === "signed-in") return;
        this.state = "signed-in";
        for (const listener of this.#signedIn) listener();
        return;
      } catch (thrown) {
        if (toColloquyError(thrown).code === Code.Unauthenticated) {
          await this.end();
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN * 1000));
    }
  }

  /** Calls back when somebody is signed in. */
  onSignedIn(listener: () => void): void {
    this.#signedIn.push(listener);
  }

  /** Calls back when nobody is any more; with true when the user meant it. */
  onSignedOut(listener: (isForgotten: boolean) => void): void {
    this.#signedOut.push(listener);
  }

  /** Signs in with an API key. Throws ColloquyError with a sentence when it is refused. */
  async signInWithKey(key: string): Promise<void> {
    await this.#signIn({ api_key: key });
  }

  /** Signs in with the one-time code of a link. Throws ColloquyError as above. */
  async signInWithCode(code: string): Promise<void> {
    await this.#signIn({ code });
  }

  /** Ends this session, in all tabs; drafts are forgotten. Throws ColloquyError. */
  async signOut(): Promise<void> {
    await signOut();
    await this.end(true);
    this.#tabs.postMessage("signed out");
  }

  /** Takes that the session has ended. What is not sent yet stays, unless the user signed out. */
  async end(isForgotten = false): Promise<void> {
    if (this.state === "signed-out") return;
    this.methods = await signInMethods().catch(() => this.methods);
    this.state = "signed-out";
    for (const listener of this.#signedOut) listener(isForgotten);
  }

  /** The user's sessions, the one that was used last first. Throws ColloquyError. */
  async list(): Promise<SessionMessage[]> {
    const sessions: SessionMessage[] = [];
    let pageToken = "";
    do {
      const page = await client.sessions.listSessions({ pageToken });
      sessions.push(...page.sessions);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return sessions;
  }

  /** Ends one of them. Throws ColloquyError. */
  async revoke(id: string): Promise<void> {
    await client.sessions.revokeSession({ sessionId: id });
  }

  async #signIn(credentials: Record<string, string>): Promise<void> {
    await signIn(credentials);
    await this.load();
    if (this.state !== "signed-in") {
      throw new ColloquyError(texts.data.noCookies, Code.Unauthenticated);
    }
    this.#tabs.postMessage("signed in");
  }
}

export const session = new Session();
