/** The plain HTTP of signing in and out: the session's cookie is the browser's alone. */

import { Code, ColloquyError } from "@colloquy/client";

import { texts } from "../texts/en.ts";

/** The ways in that a server offers. */
export interface Methods {
  readonly apiKey: boolean;
  /** A plain link to `/signin/identity-provider?return_to=/path`. */
  readonly identityProvider: boolean;
  /** A one-time code, which a link has. */
  readonly link: boolean;
}

/** Begins a session. Throws ColloquyError with a sentence when it is refused. */
export async function signIn(credentials: Record<string, string>): Promise<void> {
  await ask("POST", "/session", credentials);
}

/** Ends the session. Throws ColloquyError. */
export async function signOut(): Promise<void> {
  await ask("DELETE", "/session");
}

/** Asks which ways there are. Throws ColloquyError. */
export async function signInMethods(): Promise<Methods> {
  const { methods } = (await ask("GET", "/session/methods")) as { methods: string[] };
  return {
    apiKey: methods.includes("api_key"),
    identityProvider: methods.includes("identity_provider"),
    link: methods.includes("link"),
  };
}

async function ask(method: string, path: string, body?: Record<string, string>): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      ...(body && {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      }),
    });
  } catch (cause) {
    throw new ColloquyError(texts.data.unreachable, Code.Unavailable, { cause });
  }
  const answer: unknown = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const { message, reason = "" } = answer as { message?: string; reason?: string };
  throw new ColloquyError(message ?? texts.data.unknownError, Code.Unauthenticated, { reason });
}
