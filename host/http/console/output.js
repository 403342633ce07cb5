// Output on its way to the screen. It is written once for each frame, and a flood is shortened, so that the page never
// freezes.

import { CHARACTERS } from "./screen.js";
import { bytes as size } from "./text.js";

/** @import { Screen } from "./screen.js" */

// Time of a frame for output, and the bytes between two checks of the clock.
const FRAME_BUDGET_MS = 8;
const WRITE_CHUNK = 32 << 10;
// Output that waits for the screen. The screen would drop the beginning of more.
const MAX_QUEUED_BYTES = 4 * CHARACTERS;
// A hidden page has no frames.
const HIDDEN_FRAME_MS = 200;

export class Output {
  #screen;
  #onFrame;
  /** @type {[stream: "out" | "err", bytes: Uint8Array][]} */
  #queue = [];
  // Entries at the start of the queue that are written. Removing each would move all others.
  #written = 0;
  #queuedBytes = 0;
  #frameRequested = false;

  /**
   * @param {Screen} screen
   * @param {() => void} onFrame called after each frame that has changed the screen
   */
  constructor(screen, onFrame) {
    this.#screen = screen;
    this.#onFrame = onFrame;
  }

  /**
   * @param {"out" | "err"} stream
   * @param {Uint8Array} bytes
   */
  add(stream, bytes) {
    this.#queue.push([stream, bytes]);
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > MAX_QUEUED_BYTES) this.#shed();
    this.requestFrame();
  }

  // Drops the oldest half of the queue, which the screen would not keep either.
  #shed() {
    let dropped = 0;
    while (this.#queuedBytes > MAX_QUEUED_BYTES / 2) {
      const [, bytes] = this.#queue[this.#written++];
      this.#queuedBytes -= bytes.length;
      dropped += bytes.length;
    }
    this.#screen.skip("out");
    this.#screen.skip("err");
    this.#screen.addLine("note", `${size(dropped)} came too fast to be shown`);
  }

  // Writes the queue to the screen in the next frame.
  requestFrame() {
    if (this.#frameRequested) return;
    this.#frameRequested = true;
    const write = () => {
      this.#frameRequested = false;
      this.#write();
    };
    if (document.hidden) setTimeout(write, HIDDEN_FRAME_MS);
    else requestAnimationFrame(write);
  }

  #write() {
    const until = performance.now() + FRAME_BUDGET_MS;
    while (this.#written < this.#queue.length && performance.now() < until) {
      const [stream, bytes] = this.#queue[this.#written];
      this.#screen.write(stream, bytes.subarray(0, WRITE_CHUNK));
      this.#queuedBytes -= Math.min(WRITE_CHUNK, bytes.length);
      if (bytes.length > WRITE_CHUNK) this.#queue[this.#written] = [stream, bytes.subarray(WRITE_CHUNK)];
      else this.#written += 1;
    }
    if (this.#written > this.#queue.length / 2) {
      this.#queue.splice(0, this.#written);
      this.#written = 0;
    }
    this.#onFrame();
    if (this.#queue.length) this.requestFrame();
  }
}
