// What can be given to a process as its input.

/** Text, bytes, a file, or anything that gives pieces of them, such as a stream. */
export type Input =
  | string
  | Uint8Array
  | ArrayBuffer
  | Blob
  | ReadableStream<string | Uint8Array>
  | AsyncIterable<string | Uint8Array>
  | Iterable<string | Uint8Array>;

/** The largest frame that is sent; the server takes 1 MiB unless it is configured otherwise. */
const FRAME = 64 << 10;

const encoder = new TextEncoder();

/** Yields the input in pieces that fit into a frame. */
export async function* pieces(input: Input): AsyncGenerator<Uint8Array, void, void> {
  if (typeof input === "string" || input instanceof Uint8Array) return yield* split(input);
  if (input instanceof ArrayBuffer) return yield* split(new Uint8Array(input));
  const parts = input instanceof Blob ? input.stream() : input;
  if (typeof ReadableStream !== "undefined" && parts instanceof ReadableStream) return yield* fromStream(parts);
  for await (const part of parts as AsyncIterable<string | Uint8Array>) yield* split(part);
}

/** Reads a stream, as not all browsers can iterate over one. */
async function* fromStream(stream: ReadableStream<string | Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  const reader = stream.getReader();
  let finished = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield* split(value);
    }
    finished = true;
  } finally {
    if (!finished) await reader.cancel();
    reader.releaseLock();
  }
}

function* split(part: string | Uint8Array): Generator<Uint8Array, void, void> {
  if (typeof part !== "string" && !(part instanceof Uint8Array)) {
    throw new TypeError("input is text or bytes: encode other values first, such as with JSON.stringify");
  }
  const bytes = typeof part === "string" ? encoder.encode(part) : part;
  for (let at = 0; at < bytes.length; at += FRAME) yield bytes.subarray(at, at + FRAME);
}
