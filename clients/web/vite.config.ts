import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliCompress } from "node:zlib";

import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/** The server that `npm run dev` stands before: what is no file of the page comes from there. */
const SERVER = process.env["COLLOQUY_HTTP"] ?? "http://127.0.0.1:8080";

/**
 * Builds the SharedWorker together with the page, so that both load the same files: Vite would build
 * it for itself, with a second copy of the client. `virtual:worker` is its address, which changes
 * with what is in it: tabs of a page that was replaced keep a worker of their own.
 */
function sharedWorker(): Plugin {
  const script = "src/worker/shared.ts";
  let isBuilding = false;
  return {
    name: "shared-worker",
    configResolved: ({ command }) => {
      isBuilding = command === "build";
    },
    resolveId: (id) => (id === "virtual:worker" ? `\0${id}` : undefined),
    load(id) {
      if (id !== "\0virtual:worker") return undefined;
      if (!isBuilding) return `export default "/${script}";`;
      const reference = this.emitFile({ type: "chunk", id: script, name: "worker" });
      return `export default import.meta.ROLLUP_FILE_URL_${reference};`;
    },
  };
}

/** Writes each file of the build a second time, as `name.br`: best compressed, which takes too long
 * for a server that starts. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    // Not before they are written: until then Vite changes what is in them.
    async writeBundle({ dir = "" }, bundle) {
      const written = Object.keys(bundle).map(async (name) => {
        const packed = await promisify(brotliCompress)(await readFile(join(dir, name)));
        await writeFile(join(dir, `${name}.br`), packed);
      });
      await Promise.all(written);
    },
  };
}

export default defineConfig({
  plugins: [svelte(), sharedWorker(), compressed()],
  resolve: {
    conditions: ["colloquy-source", "module", "browser", "development|production"],
    alias: { entities: fileURLToPath(new URL("src/markdown/entities.ts", import.meta.url)) },
  },
  build: {
    // Files only: the page's content security policy allows nothing inline, nor data: for scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    // What is committed says no more of where it was built than its sources do.
    sourcemap: false,
    reportCompressedSize: false,
    // The grammar of C++, for code in it.
    chunkSizeWarningLimit: 900,
    rolldownOptions: { checks: { bundlerTimings: false } },
  },
  server: {
    host: "127.0.0.1",
    proxy: {
      // RPCs, files, and signing in. The host stays the page's: cookies count only from there.
      "^/(conversation\\.v1\\.|files|session|signin/|healthz|readyz|openapi\\.json)": SERVER,
    },
  },
});
