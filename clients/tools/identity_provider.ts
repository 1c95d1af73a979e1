/**
 * Serves a real OpenID Connect provider on this machine for tests, the package oidc-provider, which
 * is certified: one client, which has to use PKCE, and anybody who says who they are.
 *
 *     node clients/tools/identity_provider.ts CLIENT_ID CLIENT_SECRET REDIRECT_URI
 *
 * Prints its issuer, and ends when its standard input does.
 */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { argv, stdin } from "node:process";
import Provider from "oidc-provider";

const [client_id = "", client_secret = "", redirect_uri = ""] = argv.slice(2);
const server = createServer();
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id,
      client_secret,
      redirect_uris: [redirect_uri],
      grant_types: ["authorization_code"],
    },
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
  conformIdTokenClaims: false, // what is asked for is in the ID token
  pkce: { required: () => true },
  // Whoever signs in is who they say, at that address.
  findAccount: (_context, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: sub, email_verified: true, name: sub.split("@")[0] }),
  }),
});
const handle = provider.callback();
server.on("request", (request, response) => void handle(request, response));
console.log(issuer);
stdin.on("end", () => process.exit()).resume();
