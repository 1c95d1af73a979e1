/** The server's API, and the hub that hears it. */

import { createClient } from "@colloquy/client";

import { createLink } from "../worker/link.ts";

export const client = createClient({ baseUrl: location.origin });
export const link = createLink();
