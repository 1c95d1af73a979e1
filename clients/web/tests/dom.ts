/** A DOM for tests in Node. */

import { parseHTML } from "linkedom";

const { document, Node } = parseHTML("<!doctype html><html><body></body></html>");
// KaTeX asks for it.
Object.assign(document, { compatMode: "CSS1Compat" });
Object.assign(globalThis, { document, Node });
