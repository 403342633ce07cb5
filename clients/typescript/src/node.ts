// The library in Node.

import { readFileSync } from "node:fs";
import { Client } from "./client.ts";
import type { Options } from "./client.ts";
import { openNodeSocket } from "./node-socket.ts";

export * from "./exports.ts";

/** A server and the credential for it. */
export class Distillery extends Client {
  constructor(url: string, options: Options = {}) {
    super(url, options, {
      fetch: (url, init) => fetch(url, init),
      open: (address, token) => openNodeSocket(address.socket, token),
      explains: true,
    });
  }

  /** Takes what the command line takes: DISTILLERY_URL, and DISTILLERY_TOKEN or DISTILLERY_TOKEN_FILE. */
  static fromEnv(options: Omit<Options, "token"> = {}): Distillery {
    const { DISTILLERY_URL: url, DISTILLERY_TOKEN: token, DISTILLERY_TOKEN_FILE: file } = process.env;
    if (!url) throw new TypeError("DISTILLERY_URL is not set: set it to the URL of the server");
    return new Distillery(url, { ...options, token: token || (file ? readFileSync(file, "utf8") : undefined) });
  }
}
