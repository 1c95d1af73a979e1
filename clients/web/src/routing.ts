/** What one looks at: a place in the page that has an address. */
export type Route =
  | { name: "index" }
  | { name: "conversation"; id: string; messageId: string | undefined }
  | { name: "search"; query: string }
  | { name: "settings" }
  | { name: "signin"; code: string | undefined }
  | { name: "missing" };

const CONVERSATION = /^\/c\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

/** Returns what an address of this origin stands for. */
export function routeOf(url: URL): Route {
  const hash = url.hash.slice(1);
  switch (url.pathname) {
    case "/":
      return { name: "index" };
    case "/search":
      return { name: "search", query: url.searchParams.get("q") ?? "" };
    case "/settings":
      return { name: "settings" };
    case "/signin":
      return { name: "signin", code: new URLSearchParams(hash).get("code") ?? undefined };
  }
  const id = CONVERSATION.exec(url.pathname)?.[1];
  if (id === undefined) return { name: "missing" };
  return { name: "conversation", id, messageId: hash || undefined };
}

/** The address of a conversation, or of a message in it. */
export function conversationPath(id: string, messageId?: string): string {
  return messageId === undefined ? `/c/${id}` : `/c/${id}#${messageId}`;
}

/** The address of what is found for a query. */
export function searchPath(query: string): string {
  return query === "" ? "/search" : `/search?${new URLSearchParams({ q: query }).toString()}`;
}
