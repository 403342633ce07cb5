// What the library needs of a websocket. `web.ts` and `node.ts` provide it.

import type { Frame } from "./messages.ts";

/** An open websocket. */
export interface Socket {
  /** Called for each frame, in order. */
  onFrame: (frame: Frame) => void;
  /** Called once, when no more frames come. The text says why. */
  onClose: (why: string) => void;
  send(frame: Frame): void;
  /** Resolves when the network has taken enough to send more, or when the socket is closed. */
  drained(): Promise<void>;
  /** Stops and continues reading, if the platform can. */
  pause(): void;
  resume(): void;
  /** Whether `pause` has an effect. */
  readonly canPause: boolean;
  close(): void;
}

/** Opens a socket with the subprotocol of this library. */
export type Open = () => Promise<Socket>;
