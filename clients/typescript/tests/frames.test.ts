// The frames of websockets, which Node has no parser for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BINARY, CLOSE, FrameReader, PING, TEXT, encodeFrame } from "../src/frames.ts";

const MASK = Uint8Array.of(1, 2, 3, 4);

/** Returns the frame as a server sends it: without a mask. */
function unmasked(opcode: number, payload: Uint8Array): Uint8Array {
  const frame = encodeFrame(opcode, payload, new Uint8Array(4));
  const head = frame.length - payload.length;
  const plain = Uint8Array.from([...frame.subarray(0, head - 4), ...frame.subarray(head)]);
  plain[1]! &= 0x7f;
  return plain;
}

test("frames of each size are read in pieces of each size", () => {
  const sizes = [0, 1, 125, 126, 127, 65535, 65536, 70000];
  const frames = sizes.map((size) => unmasked(BINARY, new Uint8Array(size).fill(size)));
  const all = Buffer.concat(frames);
  for (const step of [1, 7, 4096, all.length]) {
    const reader = new FrameReader();
    const read = [];
    for (let at = 0; at < all.length; at += step) read.push(...reader.push(all.subarray(at, at + step)));
    assert.deepEqual(
      read.map(({ payload }) => payload.length),
      sizes,
    );
    assert.ok(
      read.every(
        ({ opcode, payload }) => opcode === BINARY && payload.every((byte) => byte === (payload.length & 255)),
      ),
    );
  }
});

test("frames of a client are masked", () => {
  const frame = encodeFrame(TEXT, Uint8Array.of(10, 20, 30, 40, 50), MASK);
  assert.deepEqual([...frame], [0x81, 0x85, 1, 2, 3, 4, 11, 22, 29, 44, 51]);
});

test("fragments become one message, and a ping can be between them", () => {
  const first = unmasked(TEXT, Uint8Array.of(1));
  first[0] = TEXT;
  const last = unmasked(0, Uint8Array.of(2));
  const read = new FrameReader().push(Buffer.concat([first, unmasked(PING, Uint8Array.of(9)), last]));
  assert.deepEqual(
    read.map(({ opcode, payload }) => [opcode, ...payload]),
    [
      [PING, 9],
      [TEXT, 1, 2],
    ],
  );
});

test("frames that break the rules are refused", () => {
  const long = unmasked(CLOSE, new Uint8Array(126));
  const huge = Uint8Array.from([0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0]);
  for (const [frame, says] of [
    [encodeFrame(TEXT, Uint8Array.of(1), MASK), "a masked frame"],
    [Uint8Array.of(0xc1, 0), "a frame with a reserved bit"],
    [Uint8Array.of(0x83, 0), "a frame out of order"],
    [Uint8Array.of(0x80, 0), "a frame out of order"],
    [Uint8Array.of(0x8b, 0), "a control frame that breaks the rules"],
    [Uint8Array.of(0x09, 0), "a control frame that breaks the rules"],
    [long, "a control frame that breaks the rules"],
    [huge, "a frame above 67108864 bytes"],
  ] as const) {
    assert.throws(() => new FrameReader().push(frame), { message: says });
  }
});
