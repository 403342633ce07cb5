// The websocket of browsers. It takes no headers, and reading cannot be stopped.

import { ConnectError, ProtocolError } from "./errors.ts";
import { PROTOCOL } from "./messages.ts";
import type { Frame } from "./messages.ts";
import type { Socket } from "./socket.ts";

/** What can wait in the browser before a write has to wait. */
const UNSENT = 256 << 10;
/** The interval of looks at what is unsent: browsers have no event for it. */
const POLL = 10;
const TIMEOUT = 30_000;

/** Opens a socket. The token goes along as a subprotocol, which the server takes out of the list. */
export function openWebSocket(url: string, token: string | undefined): Promise<Socket> {
  const protocols = token === undefined ? [PROTOCOL] : [PROTOCOL, `distillery.token.${token}`];
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  return new Promise((resolve, reject) => {
    const fail = (why: string) => {
      clearTimeout(timer);
      reject(new ConnectError(`cannot open a websocket at ${url}: ${why}`));
    };
    const timer = setTimeout(() => {
      fail(`no answer within ${TIMEOUT / 1000} s`);
      socket.close();
    }, TIMEOUT);
    // The browser gives no reason to pages.
    socket.onclose = () => fail("the server is not there, or refuses this page or its credentials");
    socket.onopen = () => {
      clearTimeout(timer);
      if (socket.protocol !== PROTOCOL) {
        socket.close();
        return reject(new ProtocolError(`no subprotocol ${PROTOCOL}`));
      }
      resolve(new WebPageSocket(socket));
    };
  });
}

class WebPageSocket implements Socket {
  onFrame: (frame: Frame) => void = () => {};
  onClose: (why: string) => void = () => {};
  readonly canPause = false;
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) =>
      this.onFrame(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
    socket.onclose = ({ code, reason }) => this.onClose(reason === "" ? `close code ${code}` : reason);
  }

  send(frame: Frame): void {
    // The page can have been offline for a moment: `onClose` follows.
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.send(frame as string | Uint8Array<ArrayBuffer>);
  }

  async drained(): Promise<void> {
    while (this.#socket.readyState === WebSocket.OPEN && this.#socket.bufferedAmount > UNSENT) {
      await new Promise((done) => setTimeout(done, POLL));
    }
  }

  pause(): void {}

  resume(): void {}

  close(): void {
    this.#socket.close();
  }
}
