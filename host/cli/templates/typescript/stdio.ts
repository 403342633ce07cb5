// Lines in and out, on the streams of WASI.
import { getStdin } from "wasi:cli/stdin@0.2.12";
import { getStdout } from "wasi:cli/stdout@0.2.12";

const encoder = new TextEncoder();
// Opened once the program runs: nothing can be while it is built.
let stdout: ReturnType<typeof getStdout> | undefined;

/** Sends a line. */
export const print = (line: string): void => write(`${line}\n`);

/** Sends text as it is. */
export function write(text: string): void {
  stdout ??= getStdout();
  const bytes = encoder.encode(text);
  for (let start = 0; start < bytes.length; start += 4096) {
    stdout.blockingWriteAndFlush(bytes.subarray(start, start + 4096));
  }
}

/** The lines that the caller sends, until the input ends. */
export const lines = read();

function* read(): Generator<string, undefined> {
  const stdin = getStdin();
  const decoder = new TextDecoder();
  let parts: string[] = [];
  for (;;) {
    let chunk: Uint8Array;
    try {
      chunk = stdin.blockingRead(65536n);
    } catch (error: any) {
      if ((error.payload ?? error).tag === "closed") break;
      throw error;
    }
    const pieces = decoder.decode(chunk, { stream: true }).split("\n");
    const last = pieces.pop();
    for (const piece of pieces) {
      parts.push(piece);
      yield parts.join("");
      parts = [];
    }
    if (last) parts.push(last);
  }
  if (parts.length) yield parts.join("");
}
