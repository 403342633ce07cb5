// One output stream of a process, as its reader sees it: bytes, text or lines, in bounded memory. Knows no sockets.

import { DistilleryError, OutputLostError } from "./errors.ts";
import type { Range, StreamName } from "./messages.ts";
import { concat, decodeText, unfinished } from "./text.ts";

/** The bytes that wait for a reader before the process has to wait. */
const BUFFER = 1 << 20;
/** The longest line. */
const LINE = 64 << 20;
const NEWLINE = 10;
const RETURN = 13;

/** Output of a process. It can be read once; iterate over it for its bytes. */
export class Output implements AsyncIterable<Uint8Array> {
  readonly name: StreamName;
  readonly #onRoom: () => void;
  /** Bytes in order, and gaps between them. */
  #items: (Uint8Array | Range)[] = [];
  #buffered = 0;
  #position: number | undefined;
  #ended = false;
  #failure: unknown;
  /** Whether the oldest bytes are dropped while there is no reader. */
  #dropping: boolean;
  #hasReader = false;
  #wake: (() => void) | undefined;

  /** `onRoom` is called when a full output has room again. Output that `drops` never makes the process wait. */
  constructor(name: StreamName, onRoom: () => void, drops: boolean) {
    this.name = name;
    this.#onRoom = onRoom;
    this.#dropping = drops;
  }

  /** The offset of the next byte that a reader gets. */
  get position(): number | undefined {
    return this.#position;
  }

  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    return this.bytes();
  }

  /** Iterates over the bytes, in pieces as they arrive. */
  bytes(): AsyncGenerator<Uint8Array, void, void> {
    return this.#read(() => this.#piece());
  }

  /** Iterates over the text as it arrives: also the line of a prompt, which has no end yet. */
  text(): AsyncGenerator<string, void, void> {
    return this.#read(() => this.#text());
  }

  /** Iterates over the lines, without `\n` or `\r\n`. */
  lines(): AsyncGenerator<string, void, void> {
    return this.#read(() => this.#line());
  }

  /** Reads everything to the end into memory. */
  async readAll(): Promise<Uint8Array> {
    const pieces = [];
    for await (const piece of this.bytes()) pieces.push(piece);
    return concat(pieces);
  }

  /** Reads everything to the end as text into memory. */
  async readText(): Promise<string> {
    return decodeText(await this.readAll());
  }

  /** Returns the bytes as a web stream, to pipe them into a file or a response. */
  readable(): ReadableStream<Uint8Array> {
    const bytes = this.bytes();
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await bytes.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await bytes.return();
      },
    });
  }

  async *#read<T>(next: () => Promise<T | undefined>): AsyncGenerator<T, void, void> {
    if (this.#hasReader) throw new DistilleryError(`${this.name} is being read already: read it in one place`);
    this.#hasReader = true;
    try {
      for (let item = await next(); item !== undefined; item = await next()) yield item;
    } finally {
      this.#hasReader = false;
    }
  }

  async #piece(): Promise<Uint8Array | undefined> {
    while (await this.#some()) {
      if (this.#items.length > 0) return this.#take(1);
    }
    return undefined;
  }

  async #text(): Promise<string | undefined> {
    while (await this.#some()) {
      const gap = this.#items.findIndex((item) => !(item instanceof Uint8Array));
      const count = gap < 0 ? this.#items.length : gap;
      const bytes = concat(this.#items.slice(0, count) as Uint8Array[]);
      // Nothing completes a character at the end of the output or before a gap.
      const whole = gap >= 0 || this.#ended ? bytes.length : bytes.length - unfinished(bytes);
      if (whole > 0) {
        this.#take(count, bytes.subarray(whole));
        return decodeText(bytes.subarray(0, whole));
      }
      await this.#more();
    }
    return undefined;
  }

  async #line(): Promise<string | undefined> {
    // The number of pieces that have no line break.
    let scanned = 0;
    while (await this.#some()) {
      for (; scanned < this.#items.length; scanned++) {
        const piece = this.#items[scanned]!;
        if (!(piece instanceof Uint8Array)) return lineOf(this.#take(scanned));
        const end = piece.indexOf(NEWLINE);
        if (end >= 0) return lineOf(this.#take(scanned + 1, piece.subarray(end + 1)));
      }
      if (this.#ended) return lineOf(this.#take(scanned));
      if (this.#buffered > LINE) throw new DistilleryError(`a line is longer than ${LINE} bytes: read bytes instead`);
      await this.#more();
    }
    return undefined;
  }

  /** Waits until something can be read. Returns false at the end. */
  async #some(): Promise<boolean> {
    while (this.#items.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#ended) return false;
      await this.#more();
    }
    const first = this.#items[0]!;
    if (first instanceof Uint8Array) return true;
    this.#items.shift();
    this.#position = first.to;
    throw new OutputLostError(this.name, first.from, first.to);
  }

  async #more(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) return;
    await new Promise<void>((wake) => {
      this.#wake = wake;
      this.#onRoom();
    });
  }

  /** Takes the first pieces, and gives `rest` of them back. */
  #take(count: number, rest?: Uint8Array): Uint8Array {
    const pieces = this.#items.splice(0, count) as Uint8Array[];
    let whole = concat(pieces);
    if (rest !== undefined && rest.length > 0) {
      this.#items.unshift(rest);
      whole = whole.subarray(0, whole.length - rest.length);
    }
    const wasFull = this.isFull;
    this.#buffered -= whole.length;
    this.#position = (this.#position ?? 0) + whole.length;
    if (wasFull && !this.isFull) this.#onRoom();
    return whole;
  }

  /** Whether the process has to wait for the reader. */
  get isFull(): boolean {
    const dropped = this.#dropping && !this.#hasReader;
    const isOpen = !this.#ended && this.#failure === undefined;
    return isOpen && this.#buffered >= BUFFER && this.#wake === undefined && !dropped;
  }

  /** The number of bytes that wait for the reader. */
  get buffered(): number {
    return this.#buffered;
  }

  /** Sets the offset of the first byte, if it is not known. @internal */
  begin(position: number): void {
    this.#position ??= position;
  }

  /** Adds bytes. @internal */
  push(bytes: Uint8Array): void {
    if (this.#ended || this.#failure !== undefined) return;
    this.#items.push(bytes);
    this.#buffered += bytes.length;
    if (this.#dropping && !this.#hasReader) this.#drop();
    this.#wakeUp();
  }

  /** Adds a gap. @internal */
  lose(from: number, to: number): void {
    this.#items.push({ from, to });
    this.#wakeUp();
  }

  /** Drops the oldest bytes from now on, while there is no reader. @internal */
  drop(): void {
    this.#dropping = true;
    if (!this.#hasReader) this.#drop();
    this.#onRoom();
  }

  /** Replaces the oldest bytes by a gap. */
  #drop(): void {
    let from = this.#position ?? 0;
    let to = from;
    const isGap = (item: Uint8Array | Range | undefined) => item !== undefined && !(item instanceof Uint8Array);
    while (this.#buffered > BUFFER || (to > from && isGap(this.#items[0]))) {
      const first = this.#items.shift()!;
      if (first instanceof Uint8Array) {
        this.#buffered -= first.length;
        to += first.length;
      } else {
        to = first.to;
      }
    }
    if (to > from) {
      this.#items.unshift({ from, to });
    }
  }

  /** Ends the output; an error follows what is buffered. @internal */
  end(failure?: unknown): void {
    if (this.#ended || this.#failure !== undefined) return;
    this.#ended = failure === undefined;
    this.#failure = failure;
    this.#wakeUp();
    this.#onRoom();
  }

  /** Ends the output with an error, and forgets what was not read. @internal */
  abandon(failure: unknown): void {
    this.#items = [];
    this.#buffered = 0;
    this.end(failure);
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

function lineOf(bytes: Uint8Array): string {
  let end = bytes.length;
  if (bytes[end - 1] === NEWLINE) {
    end--;
    if (bytes[end - 1] === RETURN) end--;
  }
  return decodeText(bytes.subarray(0, end));
}
