// A websocket over the sockets of Node. Unlike the `WebSocket` of Node it exists in every release, can send the token
// as a header, and stops reading while the reader of the output is behind.

import { createHash, randomBytes } from "node:crypto";
import * as http from "node:http";
import * as https from "node:https";
import type { Duplex } from "node:stream";
import { messageOf } from "./api.ts";
import { ApiError, ConnectError, ProtocolError, apiFailure } from "./errors.ts";
import { BINARY, CLOSE, FrameReader, PING, PONG, TEXT, encodeFrame } from "./frames.ts";
import { PROTOCOL } from "./messages.ts";
import type { Frame } from "./messages.ts";
import type { Socket } from "./socket.ts";

const TIMEOUT = 30_000;
/** The time that the server has to answer a close frame. */
const CLOSE_TIMEOUT = 5_000;
/** What is sent in one turn of the event loop. */
const TURN = 256 << 10;
/** The part of an error answer that is read. */
const ERROR_BODY = 64 << 10;
/** What RFC 6455 adds to the key of a handshake. */
const ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Opens a socket, with the token in a header. */
export function openNodeSocket(url: string, token: string | undefined): Promise<Socket> {
  const target = new URL(url.replace(/^ws/, "http"));
  const key = randomBytes(16).toString("base64");
  const headers: http.OutgoingHttpHeaders = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": key,
    "sec-websocket-protocol": PROTOCOL,
  };
  if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
  return new Promise((resolve, reject) => {
    // An agent of its own: sockets must not wait for each other.
    const request = (target.protocol === "https:" ? https : http).request(target, { headers, agent: false });
    request.setTimeout(TIMEOUT, () => request.destroy(new Error(`no answer within ${TIMEOUT / 1000} s`)));
    request.on("error", (error: NodeJS.ErrnoException) => {
      // With several addresses of a name the message is empty.
      const why = error.message || error.code || "no connection";
      reject(
        new ConnectError(`cannot reach ${url}: ${why}: does the server run, and is its URL right?`, { cause: error }),
      );
    });
    request.on("response", (response) => void refused(response).then(reject));
    request.on("upgrade", (response, socket, head) => {
      socket.on("error", () => {});
      const accept = createHash("sha1")
        .update(key + ACCEPT)
        .digest("base64");
      const isProper =
        response.headers["sec-websocket-accept"] === accept && response.headers["sec-websocket-protocol"] === PROTOCOL;
      if (!isProper) {
        socket.destroy();
        return reject(new ProtocolError(`a handshake without ${PROTOCOL}`));
      }
      resolve(new NodeSocket(socket, head));
    });
    request.end();
  });
}

async function refused(response: http.IncomingMessage): Promise<ApiError> {
  let text = "";
  try {
    response.setEncoding("utf8");
    for await (const piece of response) {
      text += piece;
      if (text.length > ERROR_BODY) break;
    }
  } catch {
    // The status says enough.
  }
  const status = response.statusCode ?? 0;
  return new ApiError(status, apiFailure(status, messageOf(text)));
}

class NodeSocket implements Socket {
  onFrame: (frame: Frame) => void = () => {};
  onClose: (why: string) => void = () => {};
  readonly canPause = true;
  readonly #socket: Duplex;
  readonly #reader = new FrameReader();
  readonly #encoder = new TextEncoder();
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  /** What was sent in this turn. */
  #sent = 0;
  #closed = false;
  #why = "the connection ended";

  constructor(socket: Duplex, head: Uint8Array) {
    this.#socket = socket;
    // The timeout was that of the handshake.
    (socket as Duplex & { setTimeout?: (ms: number) => void }).setTimeout?.(0);
    (socket as Duplex & { setNoDelay?: (is: boolean) => void }).setNoDelay?.(true);
    socket.on("error", (error) => (this.#why = error.message));
    socket.on("close", () => this.onClose(this.#why));
    socket.on("end", () => socket.end());
    socket.on("data", (bytes: Uint8Array) => this.#onData(bytes));
    if (head.length > 0) socket.unshift(head);
  }

  #onData(bytes: Uint8Array): void {
    try {
      for (const { opcode, payload } of this.#reader.push(bytes)) this.#onFrame(opcode, payload);
    } catch (error) {
      this.#why = new ProtocolError((error as Error).message).message;
      this.#socket.destroy();
    }
  }

  #onFrame(opcode: number, payload: Uint8Array): void {
    switch (opcode) {
      case TEXT:
        return this.onFrame(this.#decoder.decode(payload));
      case BINARY:
        return this.onFrame(payload);
      case PING:
        return this.#write(PONG, payload);
      case CLOSE: {
        const code = payload.length >= 2 ? new DataView(payload.buffer, payload.byteOffset).getUint16(0) : undefined;
        this.#why = code === undefined ? "the server closed the connection" : `close code ${code}`;
        this.#end(payload.subarray(0, 2));
      }
    }
  }

  #write(opcode: number, payload: Uint8Array): void {
    if (this.#closed || !this.#socket.writable) return;
    this.#socket.write(encodeFrame(opcode, payload, randomBytes(4)));
    this.#sent += payload.length;
  }

  send(frame: Frame): void {
    if (typeof frame === "string") this.#write(TEXT, this.#encoder.encode(frame));
    else this.#write(BINARY, frame);
  }

  async drained(): Promise<void> {
    const socket = this.#socket;
    // As long as the kernel takes every write at once, Node reads nothing and runs no timer, unless it is told to.
    if (this.#sent >= TURN) {
      this.#sent = 0;
      await new Promise((done) => setImmediate(done));
    }
    if (!socket.writableNeedDrain || socket.destroyed) return;
    await new Promise<void>((done) => {
      const finish = () => {
        socket.off("drain", finish);
        socket.off("close", finish);
        done();
      };
      socket.on("drain", finish);
      socket.on("close", finish);
    });
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Ends the connection, after all that was sent. */
  #end(status: Uint8Array): void {
    if (this.#closed) return;
    this.#write(CLOSE, status);
    this.#closed = true;
    this.#socket.end();
    // A server that is gone answers nothing, and a program must be able to end.
    setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT).unref();
    this.#socket.resume();
  }

  close(): void {
    this.onFrame = () => {};
    this.onClose = () => {};
    this.#end(new Uint8Array([1000 >> 8, 1000 & 255]));
  }
}
