/** Which addresses of a text may be followed, and where they really lead. */

import { BIDI_CONTROLS } from "./controls.ts";

/** A link that is safe to follow. */
export interface Link {
  /** The address, as the browser understands it, without user name and password. */
  href: string;
  /** Where it leads, to be shown: the host in ASCII, or the mail address. */
  host: string;
}

const FILE = /^\/files\/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Returns where an address of a text leads; undefined when it is none that may be followed:
 * relative ones are none either, since they would lead into this page. */
export function safeLink(address: string): Link | undefined {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return undefined;
  }
  if (url.protocol === "mailto:") {
    const to = decoded(url.pathname);
    return { href: url.href, host: to };
  }
  if ((url.protocol !== "http:" && url.protocol !== "https:") || url.hostname === "") {
    return undefined;
  }
  url.username = "";
  url.password = "";
  return { href: url.href, host: url.host };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text).replace(BIDI_CONTROLS, "");
  } catch {
    return text;
  }
}

/** Tells whether an address is that of a file of this server. */
export function isOwnFile(address: string): boolean {
  return FILE.test(address);
}

/** Tells whether a link's text says where it leads: then that need not be said again. */
export function saysHost(text: string, host: string): boolean {
  const words = text.trim().toLowerCase();
  const bare = host.toLowerCase();
  if (/[^\u0020-\u007e]/.test(words)) return false;
  const named = /^(?:[a-z][a-z+.-]*:(?:\/\/)?)?([^/?#\s]+)(?:[/?#]\S*)?$/.exec(words)?.[1];
  return named === bare || named === bare.replace(/^www\./, "");
}
