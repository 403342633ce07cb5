// What the tests share: the server that they talk to, and a connection to it that can be broken.

import { readFileSync } from "node:fs";
import * as net from "node:net";
import type { Call, Ticket } from "../src/node.ts";

/** A section of clients/vectors.json is a list of cases. */
export type Case = Record<string, any>;

// From clients/typescript/build/tests.
export const vectors: Record<string, Case[]> & { operations_without_a_method: Record<string, string> } = JSON.parse(
  readFileSync(new URL("../../../vectors.json", import.meta.url), "utf8"),
);

export const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The server of the live tests, which `tests/tests/client_libraries.rs` starts. */
export const server = {
  url: process.env["DISTILLERY_TEST_URL"] ?? "",
  /** A token with all scopes. */
  token: process.env["DISTILLERY_TEST_TOKEN"] ?? "",
};

export const live = { skip: server.url === "" ? "DISTILLERY_TEST_URL is not set" : false };

/** A proxy in front of the server, whose connections can be broken. */
export class Proxy {
  readonly #server: net.Server;
  readonly #connections = new Set<net.Socket>();
  /** The number of connections so far. */
  accepted = 0;
  /** Whether what clients send is dropped instead of passed on. */
  swallows = false;
  /** Breaks each connection after this many bytes of the server, if it is set. */
  breakAfter = Infinity;

  private constructor(server: net.Server) {
    this.#server = server;
  }

  static async start(): Promise<Proxy> {
    const target = new URL(server.url);
    const listener = net.createServer();
    const proxy = new Proxy(listener);
    listener.on("connection", (client) => proxy.#carry(client, net.connect(Number(target.port), target.hostname)));
    await new Promise<void>((done) => listener.listen(0, "127.0.0.1", done));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  #carry(client: net.Socket, upstream: net.Socket): void {
    this.accepted++;
    let passed = 0;
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#connections.add(from);
      from.on("error", () => {});
      from.on("close", () => {
        this.#connections.delete(from);
        to.destroy();
      });
      from.on("data", (data) => {
        if (from === client && this.swallows) return;
        if (from === upstream) passed += data.length;
        if (!to.write(data)) from.pause();
        if (passed > this.breakAfter) from.destroy();
      });
      to.on("drain", () => from.resume());
    }
  }

  /** Breaks all connections. */
  breakAll(): void {
    for (const connection of this.#connections) connection.resetAndDestroy();
  }

  /** Takes no connections any more, and breaks the present ones. */
  stop(): void {
    this.#server.close();
    this.breakAll();
  }
}

/** Returns the lines of a call, and its result. */
export async function linesOf(call: Call): Promise<string[]> {
  const lines = [];
  for await (const line of call) lines.push(line);
  return lines;
}

/** Returns the ticket of an error. */
export function ticketOf(error: unknown): Ticket {
  const { ticket } = error as { ticket?: Ticket };
  if (ticket === undefined) throw error;
  return ticket;
}
