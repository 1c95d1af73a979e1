/** Characters of a file's name that systems or shells take for something else. */
const UNSAFE = /[\p{Cc}\p{Cf}"*/:<>?\\|]+/gu;

/** Returns a name for a file with the export of a conversation, which every system takes. */
export function exportName(title: string, ending: "md" | "json"): string {
  const plain = title.replace(UNSAFE, " ").replace(/\s+/gu, " ").trim();
  return `${
    Array.from(plain)
      .slice(0, 80)
      .join("")
      .replace(/^[.\s]+/u, "") || "conversation"
  }.${ending}`;
}

/** Has the browser save a file. */
export function saveFile(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => {
    URL.revokeObjectURL(url);
  }, 60_000);
}
