// A running call: its output, its input, its cancel and its result.

// For programs that are compiled for an older library.
/// <reference lib="esnext.disposable" preserve="true" />

import { CallFailedError, ConnectionLostError, DetachedError, DistilleryError } from "./errors.ts";
import { pieces } from "./input.ts";
import type { Input } from "./input.ts";
import { Link } from "./link.ts";
import { CANCEL, DETACH, END } from "./messages.ts";
import type { Result, ServerMessage, StreamName, Ticket } from "./messages.ts";
import { Output } from "./output.ts";
import { RECONNECT } from "./retry.ts";
import type { Reconnect } from "./retry.ts";
import { Session } from "./session.ts";
import type { Start, Step } from "./session.ts";
import type { Open } from "./socket.ts";

/** What happens to a call beside its output: messages of the server with the names of the wire, lost connections. */
export type CallEvent =
  | ServerMessage
  | {
      type: "reconnecting";
      /** Begins with 1. */
      attempt: number;
      /** Milliseconds until it. */
      delay: number;
      why: string;
    };

export interface AttachOptions {
  /** Cancels the call when it is aborted. The process has its grace period, and its last output still comes. */
  signal?: AbortSignal | undefined;
  /** The milliseconds after an abort at which the process is ended by force. By default its grace period counts. */
  forceAfter?: number | undefined;
  /** Is sent as input, which then ends. Without it input stays open for `write`. */
  input?: Input | undefined;
  /** Whether and how a lost connection to a detached process is opened again. */
  reconnect?: Partial<Reconnect> | false | undefined;
  /** Called for each event. */
  onEvent?: ((event: CallEvent) => void) | undefined;
}

export interface CallOptions extends AttachOptions {
  /** Whether the process goes on when its client is gone. By default its manifest decides. */
  detach?: boolean | undefined;
}

/** What a call needs of its server. @internal */
export interface Server {
  open: Open;
  /** Tells a process to stop with a request of its own. */
  cancel(id: string, force: boolean): Promise<unknown>;
}

/** The time that a cancel has to overtake the input before it. */
const CANCEL_PATIENCE = 2_000;
/** The output that a platform which cannot stop reading holds for its reader. */
const UNREAD = 64 << 20;

/** A value that comes later. An error without a reader is not reported. */
class Deferred<T> {
  resolve!: (value: T) => void;
  reject!: (error: unknown) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });

  constructor() {
    this.promise.catch(() => {});
  }
}

export class Call implements AsyncIterable<string> {
  readonly name: string;
  readonly stdout: Output;
  /** Nothing, unless the manifest forwards it. Without a reader it never makes the process wait. */
  readonly stderr: Output;
  readonly #session: Session;
  readonly #link: Link;
  readonly #server: Server;
  readonly #options: AttachOptions;
  readonly #started = new Deferred<Ticket>();
  readonly #result = new Deferred<Result>();
  readonly #detached = new Deferred<void>();
  /** Frames of input leave one after the other. */
  #writes: Promise<void> = Promise.resolve();
  #cancels = { wanted: 0, sent: 0, seen: false };
  #timers: ReturnType<typeof setTimeout>[] = [];

  /** @internal */
  constructor(name: string, start: Start, server: Server, options: AttachOptions) {
    this.name = name;
    this.#server = server;
    this.#options = options;
    const policy = options.reconnect === false ? { ...RECONNECT, attempts: 0 } : { ...RECONNECT, ...options.reconnect };
    this.#session = new Session(start);
    this.stdout = new Output("stdout", () => this.#balance(), false);
    this.stderr = new Output("stderr", () => this.#balance(), true);
    const from = "attach" in start ? start.attach : { stdout: 0, stderr: 0 };
    if (from.stdout !== undefined) this.stdout.begin(from.stdout);
    if (from.stderr !== undefined) this.stderr.begin(from.stderr);
    this.#link = new Link(this.#session, server.open, policy, {
      step: (step) => this.#onStep(step),
      opened: () => this.#sendCancels(),
      reconnecting: (attempt, delay, why) => this.#tell({ type: "reconnecting", attempt, delay, why }),
      failed: (error) => this.#fail(error),
      ticket: () => this.ticket!,
    });
    const { signal, input } = options;
    if (signal?.aborted) {
      this.#link.fail(signal.reason);
      return;
    }
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    void this.#link.start();
    if (input !== undefined) void this.send(input).catch((error: unknown) => this.#onInputError(error));
  }

  /** Iterates over the lines of stdout, without their terminators. */
  [Symbol.asyncIterator](): AsyncGenerator<string, void, void> {
    return this.stdout.lines();
  }

  /** Resolves when the process has started, with its identifier. */
  get started(): Promise<Ticket> {
    return this.#started.promise;
  }

  /** The identifier of the process, once it has started. */
  get id(): string | undefined {
    return this.#session.id;
  }

  /** The process and the position of its readers, if it is detached: `attach` continues there. */
  get ticket(): Ticket | undefined {
    if (!this.#session.kept) return undefined;
    return this.#session.ticket({ stdout: this.stdout.position, stderr: this.stderr.position });
  }

  /** Sends input. Resolves when the network has taken it, so that input waits for a slow process. */
  write(input: string | Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      for await (const piece of pieces(input)) await this.#link.input(piece);
    });
  }

  /** Ends the input, after all that was written. */
  end(): Promise<void> {
    return this.#inTurn(() => this.#link.input(END));
  }

  /** Sends all of a file, a stream or an iterable, and ends the input. */
  send(input: Input): Promise<void> {
    return this.#inTurn(async () => {
      for await (const piece of pieces(input)) await this.#link.input(piece);
      await this.#link.input(END);
    });
  }

  /** Waits until the server has certainly received all input that was sent. */
  async flush(): Promise<void> {
    await this.#writes;
    await this.#link.flush();
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#writes.then(work);
    this.#writes = done.catch(() => {});
    return done;
  }

  /** Ends the call, unless the process has ended: then it does not need the rest of its input. */
  #onInputError(error: unknown): void {
    if (this.#link.isOver) return;
    // Without its whole input the process must not succeed.
    this.cancel();
    this.#fail(error);
  }

  /**
   * Tells the process to stop. It has its grace period, its last output still comes, and then the result. With `force`,
   * or when called again, it has no grace period.
   */
  cancel({ force = false }: { force?: boolean } = {}): void {
    this.#cancels.wanted = force ? 2 : Math.min(2, this.#cancels.wanted + 1);
    this.#sendCancels();
  }

  #sendCancels(): void {
    const cancels = this.#cancels;
    while (cancels.sent < cancels.wanted && this.#link.control(CANCEL)) cancels.sent++;
    if (cancels.sent === 0 || this.#link.isOver) return;
    const force = cancels.sent === 2;
    this.#later(CANCEL_PATIENCE, () => {
      // The server has not read it, because it waits behind input that the process does not read.
      const { id } = this.#session;
      if (id !== undefined && (force || !cancels.seen)) void this.#server.cancel(id, force).catch(() => {});
    });
  }

  /** Sends a cancel again that was lost with a connection. The server says at once whether it has it. */
  async #repeatCancels(): Promise<void> {
    if (this.#cancels.sent === 0) return;
    await this.#link.roundTrip();
    if (this.#cancels.seen || this.#link.isOver) return;
    this.#cancels.sent = 0;
    this.#sendCancels();
  }

  readonly #onAbort = (): void => {
    if (this.#link.isOver) return;
    this.cancel();
    const { forceAfter } = this.#options;
    if (forceAfter !== undefined) this.#later(forceAfter, () => this.cancel({ force: true }));
  };

  #later(delay: number, work: () => void): void {
    if (!this.#link.isOver) this.#timers.push(setTimeout(work, delay));
  }

  /** Leaves a detached process running, and returns the ticket to continue at the first byte that was not read. */
  async detach(): Promise<Ticket> {
    if (!this.#link.isOver) {
      await this.started;
      if (!this.#session.kept) throw new DistilleryError("the call is not detached: call it with detach: true");
      const { ticket } = this;
      // The next client reads what was not read here.
      const error = new DetachedError(ticket!);
      this.stdout.abandon(error);
      this.stderr.abandon(error);
      this.#end(error);
      if (this.#link.control(DETACH)) await this.#detached.promise;
      else this.#link.close();
      return ticket!;
    }
    const { ticket } = this;
    if (ticket === undefined) throw new DistilleryError("the call has ended, and its process is not kept");
    return ticket;
  }

  /**
   * Waits for the end, and returns how the process ended, also without success. Output without a reader is dropped
   * beyond 1 MiB.
   */
  result(): Promise<Result> {
    this.stdout.drop();
    return this.#result.promise;
  }

  /** Returns the value that the call set. Throws a CallFailedError if the call had no success. */
  async value(): Promise<unknown> {
    const result = await this.result();
    if (!result.success) throw new CallFailedError(this.name, result);
    return result.value;
  }

  /** Leaves a detached process running, and cancels any other. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#link.isOver) return;
    try {
      if (this.#session.detaches) {
        await this.detach();
      } else {
        this.cancel();
        await this.result();
      }
    } catch (error) {
      // The connection is lost, or nothing was started: nothing is left to end.
      if (!(error instanceof DistilleryError)) throw error;
    }
  }

  #onStep(step: Step): void {
    switch (step.type) {
      case "data":
        this.#output(step.stream).push(step.bytes);
        return this.#balance();
      case "lost":
        this.#output(step.stream).lose(step.from, step.to);
        return this.#tell(step);
      case "message":
        return this.#onMessage(step.message);
      case "ended":
        this.#onEnd(step.result);
        return;
      case "detached":
        return this.#detached.resolve();
      case "refused":
        this.#detached.resolve();
        return this.#fail(new ConnectionLostError(`the server ended the connection: ${step.message}`, this.ticket));
    }
  }

  #onMessage(message: ServerMessage): void {
    if (message.type === "attached") {
      this.stdout.begin(message.stdout.from);
      this.stderr.begin(message.stderr.from);
    }
    if (message.type === "started" || message.type === "attached") this.#started.resolve(this.#session.ticket({}));
    if (message.type === "attached") void this.#repeatCancels();
    if (message.type === "cancelling") this.#cancels.seen = true;
    this.#tell(message);
  }

  #onEnd(result: Result): void {
    this.#clear();
    this.#detached.resolve();
    this.#started.reject(new CallFailedError(this.name, result));
    this.stdout.end();
    this.stderr.end();
    this.#result.resolve(result);
    this.#tell({ type: "ended", outcome: result });
  }

  #fail(error: unknown): void {
    this.#link.close();
    this.#end(error);
  }

  #end(error: unknown): void {
    this.#clear();
    this.#started.reject(error);
    this.stdout.end(error);
    this.stderr.end(error);
    this.#result.reject(error);
  }

  #clear(): void {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
  }

  #output(stream: StreamName): Output {
    return stream === "stdout" ? this.stdout : this.stderr;
  }

  /** Reads no faster than the readers of the output. */
  #balance(): void {
    if (!this.stdout.isFull && !this.stderr.isFull) return this.#link.resume();
    this.#link.pause();
    if (this.#link.canPause || this.stdout.buffered + this.stderr.buffered < UNREAD) return;
    this.cancel();
    this.#fail(new DistilleryError("the page reads more slowly than the process writes: read the output as it comes"));
  }

  #tell(event: CallEvent): void {
    try {
      this.#options.onEvent?.(event);
    } catch (error) {
      // It is an error of the program, as one in a listener of events is, and not of the call.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
