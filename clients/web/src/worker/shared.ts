/** The SharedWorker: one hub for all tabs of this browser. */

import type { ToHub } from "./protocol.ts";
import { createHub } from "./server.ts";

/** What a SharedWorker is to itself; the types of workers would hide those of pages. */
declare const self: { onconnect: (event: MessageEvent) => void };

/** The first thing that a tab says: the name of the lock that it holds for as long as it lives. */
export interface Hello {
  readonly type: "hello";
  readonly lock: string;
}

const hub = createHub();

self.onconnect = ({ ports: [port] }) => {
  if (port === undefined) return;
  const tab = hub.connect((message) => {
    port.postMessage(message);
  });
  port.onmessage = ({ data }: MessageEvent<Hello | ToHub>) => {
    if (data.type !== "hello") {
      tab.handle(data);
      return;
    }
    // It is granted when the tab is gone, however it went.
    void navigator.locks.request(data.lock, () => {
      tab.close();
      port.close();
    });
  };
};
