// A server and the credential for it.

import { Api } from "./api.ts";
import type { Fetch } from "./api.ts";
import { parseAddress, parseToken } from "./address.ts";
import type { Address } from "./address.ts";
import { Call } from "./call.ts";
import type { AttachOptions, CallOptions } from "./call.ts";
import { ApiError, CallFailedError, ConnectError } from "./errors.ts";
import type { Result, Ticket } from "./messages.ts";
import type { Socket } from "./socket.ts";
import type { Start } from "./session.ts";

export interface Options {
  /** A token, as made by `distillery token add`. */
  token?: string | undefined;
  /** Whether the token can be sent over a network without TLS. */
  insecure?: boolean;
  /** Whether a page sends its cookie to a server of another origin: "include". */
  credentials?: RequestCredentials;
}

/** What a platform provides. @internal */
export interface Platform {
  fetch: Fetch;
  open(address: Address, token: string | undefined): Promise<Socket>;
  /** Whether a failed handshake says why. */
  explains: boolean;
}

/** What a call gave that was run to its end. */
export interface Ran extends Result {
  /** Its whole output as text. */
  stdout: string;
  stderr: string;
}

export class Client {
  readonly api: Api;
  readonly #address: Address;
  readonly #token: string | undefined;
  readonly #platform: Platform;

  /** @internal */
  constructor(url: string, options: Options, platform: Platform) {
    this.#address = parseAddress(url);
    this.#token = options.token === undefined ? undefined : parseToken(options.token);
    this.#platform = platform;
    if (this.#token !== undefined && !this.#address.isPrivate && !options.insecure) {
      throw new TypeError("others on the network could read the token: use https, or pass insecure: true");
    }
    this.api = new Api(this.#address.api, this.#token, platform.fetch, options.credentials);
  }

  /** Starts a call. Its input stays open for `write`, unless the options have an input. */
  call(name: string, params: readonly string[] = [], options: CallOptions = {}): Call {
    const wrong = params.findIndex((param) => typeof param !== "string");
    if (wrong >= 0) throw new TypeError(`parameter ${wrong + 1} of ${name} is not a string: use String(value)`);
    return this.#begin(name, { call: name, params, detach: options.detach }, options);
  }

  /** Continues with a detached process, by its identifier or the ticket that a call gave. */
  attach(process: string | Ticket, options: AttachOptions = {}): Call {
    const ticket = typeof process === "string" ? { id: process } : process;
    return this.#begin(ticket.id, { attach: ticket }, options);
  }

  /**
   * Runs a call to its end, and returns its whole output. Throws a CallFailedError if it has no success, and the reason
   * of `signal` if that was aborted. Input stays open unless the options have one: give "" to a call that reads to the
   * end.
   */
  async run(name: string, params: readonly string[] = [], options: CallOptions = {}): Promise<Ran> {
    const call = this.call(name, params, options);
    const [stdout, stderr, result] = await Promise.all([call.stdout.readText(), call.stderr.readText(), call.result()]);
    if (result.success) return { ...result, stdout, stderr };
    if (options.signal?.aborted && result.reason === "client") throw options.signal.reason;
    throw new CallFailedError(name, result);
  }

  #begin(name: string, start: Start, options: AttachOptions): Call {
    const cancel = (id: string, force: boolean) => this.api.cancelProcess(id, { force });
    return new Call(name, start, { open: () => this.#open(), cancel }, options);
  }

  async #open(): Promise<Socket> {
    try {
      return await this.#platform.open(this.#address, this.#token);
    } catch (error) {
      if (error instanceof ConnectError && !this.#platform.explains) await this.#explain(error);
      throw error;
    }
  }

  /** Finds out with a request why there is no socket. */
  async #explain(error: ConnectError): Promise<void> {
    try {
      await this.api.auth();
    } catch (reason) {
      if (reason instanceof ApiError) throw reason;
    }
    error.message += ", or lists no http.origins with the origin of this page";
  }
}
