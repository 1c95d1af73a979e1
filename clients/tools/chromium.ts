/**
 * Prints the path of a browser for tests and pictures: the one that BROWSER names, a Chromium that
 * is installed here, or the one of the package @sparticuz/chromium (Linux on x86-64), unpacked once
 * beside it.
 *
 *     node clients/tools/chromium.ts
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";

const INSTALLED = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
const MAC = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

/** Returns the path of a program, by its name or its own path; undefined when there is none. */
function found(name: string): string | undefined {
  if (name === "") return undefined;
  if (name.includes("/")) return existsSync(name) ? name : undefined;
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Returns the wrapper of the package's browser, which is unpacked when it is not yet. */
async function unpacked(): Promise<string> {
  const packed = dirname(dirname(createRequire(import.meta.url).resolve("@sparticuz/chromium")));
  const folder = join(packed, ".unpacked");
  const wrapper = join(folder, "browser");
  if (existsSync(wrapper)) return wrapper;
  // Made beside its place and then renamed: whoever comes meanwhile finds all of it or nothing.
  const made = mkdtempSync(join(packed, ".unpacking-"));
  process.env["TMPDIR"] = made;
  const { inflate } = await import("@sparticuz/chromium");
  for (const part of ["chromium.br", "fonts.tar.br", "al2023.tar.br"]) {
    await inflate(join(packed, "bin", part));
  }
  writeFileSync(join(made, "browser"), wrapperScript(join(made, "chromium")), { mode: 0o755 });
  try {
    renameSync(made, folder);
  } catch (error) {
    rmSync(made, { recursive: true });
    if (!existsSync(wrapper)) throw error;
  }
  return wrapper;
}

/** Returns what starts the browser, with the libraries and fonts of the package where the machine
 * has none. */
function wrapperScript(browser: string): string {
  const linked = spawnSync("ldd", [browser], { encoding: "utf-8" });
  const lacks = linked.error !== undefined || linked.stdout.includes("not found");
  const lines = ["#!/bin/sh", 'here="$(dirname "$0")"'];
  if (lacks) {
    lines.push('export LD_LIBRARY_PATH="$here/al2023/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"');
  }
  lines.push('[ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_PATH="$here/fonts"');
  lines.push('exec "$here/chromium" "$@"', "");
  return lines.join("\n");
}

/** Tells whether a program is a Chromium: BROWSER is often one that opens links, and what Ubuntu
 * installs by that name may only say how to get one. */
function isChromium(path: string): boolean {
  return /^(Google Chrome|Chromium|HeadlessChrome)/.test(
    spawnSync(path, ["--version"], { encoding: "utf-8" }).stdout,
  );
}

const candidates = [process.env["BROWSER"] ?? "", ...INSTALLED, ...MAC];
const installed = candidates.map(found).find((path) => path !== undefined && isChromium(path));
console.log(installed ?? (await unpacked()));
