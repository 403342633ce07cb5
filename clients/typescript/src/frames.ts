// The frames of websockets (RFC 6455) for a client that has only sockets. Knows no sockets itself.

import { concat } from "./text.ts";

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;
const CONTINUATION = 0;

/** The largest message: a list of processes can be long. */
const LARGEST = 64 << 20;

export interface WholeFrame {
  opcode: number;
  payload: Uint8Array;
}

/** Returns a frame of a client, which is masked. `mask` has four random bytes. */
export function encodeFrame(opcode: number, payload: Uint8Array, mask: Uint8Array): Uint8Array {
  const { length } = payload;
  const extended = length < 126 ? 0 : length < 0x10000 ? 2 : 8;
  const start = 2 + extended + 4;
  const frame = new Uint8Array(start + length);
  const view = new DataView(frame.buffer);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (extended === 0 ? length : extended === 2 ? 126 : 127);
  if (extended === 2) view.setUint16(2, length);
  if (extended === 8) view.setBigUint64(2, BigInt(length));
  frame.set(mask, start - 4);
  for (let at = 0; at < length; at++) frame[start + at] = payload[at]! ^ mask[at & 3]!;
  return frame;
}

/** Puts frames together from the pieces that a connection gives. */
export class FrameReader {
  #pieces: Uint8Array[] = [];
  #buffered = 0;
  /** The bytes that the next frame needs at least. */
  #needed = 2;
  /** A message that continues. */
  #message: { opcode: number; parts: Uint8Array[]; length: number } | undefined;

  /** Returns the frames and messages that these bytes complete. Throws an error that says what breaks the rules. */
  push(bytes: Uint8Array): WholeFrame[] {
    this.#pieces.push(bytes);
    this.#buffered += bytes.length;
    const frames: WholeFrame[] = [];
    if (this.#buffered < this.#needed) return frames;
    let rest = concat(this.#pieces);
    for (;;) {
      const size = sizeOf(rest);
      if (rest.length < size.whole) {
        this.#needed = size.whole;
        break;
      }
      const frame = this.#take(rest[0]!, rest.subarray(size.head, size.whole));
      if (frame !== undefined) frames.push(frame);
      rest = rest.subarray(size.whole);
    }
    this.#pieces = rest.length === 0 ? [] : [rest];
    this.#buffered = rest.length;
    return frames;
  }

  #take(first: number, payload: Uint8Array): WholeFrame | undefined {
    const opcode = first & 15;
    const isLast = (first & 0x80) !== 0;
    if ((first & 0x70) !== 0) throw new Error("a frame with a reserved bit");
    if (opcode >= CLOSE) {
      if (opcode > PONG || !isLast || payload.length > 125) throw new Error("a control frame that breaks the rules");
      return { opcode, payload };
    }
    if (opcode > BINARY || (opcode === CONTINUATION) !== (this.#message !== undefined)) {
      throw new Error("a frame out of order");
    }
    const message = this.#message ?? { opcode, parts: [], length: 0 };
    message.parts.push(payload);
    message.length += payload.length;
    if (message.length > LARGEST) throw new Error(`a message above ${LARGEST} bytes`);
    this.#message = isLast ? undefined : message;
    return isLast ? { opcode: message.opcode, payload: concat(message.parts) } : undefined;
  }
}

/** Returns the size of the head of the next frame, and of all of it, as far as its beginning says. */
function sizeOf(bytes: Uint8Array): { head: number; whole: number } {
  if (bytes.length < 2) return { head: 2, whole: 2 };
  const second = bytes[1]!;
  if ((second & 0x80) !== 0) throw new Error("a masked frame");
  const short = second & 127;
  const head = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < head) return { head, whole: head };
  const view = new DataView(bytes.buffer, bytes.byteOffset, head);
  const length = short < 126 ? short : short === 126 ? view.getUint16(2) : Number(view.getBigUint64(2));
  if (length > LARGEST) throw new Error(`a frame above ${LARGEST} bytes`);
  return { head, whole: head + length };
}
