// The library in a browser.

import { Client } from "./client.ts";
import type { Options } from "./client.ts";
import { openWebSocket } from "./web.ts";

export * from "./exports.ts";

/** A server and the credential for it. Without a token the cookie of the page's login counts. */
export class Distillery extends Client {
  /** By default the server is that of the page. */
  constructor(url: string = location.origin, options: Options = {}) {
    super(url, options, {
      fetch: (url, init) => fetch(url, init),
      open: (address, token) => openWebSocket(address.socket, token),
      explains: false,
    });
  }
}
