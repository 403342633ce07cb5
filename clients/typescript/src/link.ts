// The connections of one call: opens the first, opens another when one is lost, and knows how much of the input the
// server certainly has. Knows the meaning of no output.

import { ApiError, CallEndedError, ConnectError, ConnectionLostError, InputLostError } from "./errors.ts";
import { LIST } from "./messages.ts";
import type { Frame, Ticket } from "./messages.ts";
import { delayOf } from "./retry.ts";
import type { Reconnect } from "./retry.ts";
import type { Session, Step } from "./session.ts";
import type { Open, Socket } from "./socket.ts";

/** What the call is told of its connections. */
export interface Handlers {
  step(step: Step): void;
  /** The first frame of a connection was sent. */
  opened(): void;
  reconnecting(attempt: number, delay: number, why: string): void;
  failed(error: unknown): void;
  ticket(): Ticket;
}

/** The silence after which the server is asked for a sign of life. Heartbeats come more often. */
const QUIET = 60_000;
/** The time that it has for the answer. */
const ANSWER = 20_000;
/** The interval of checks. */
const CHECK = 5_000;
/** The shortest time between two questions about the input. */
const PROBE = 1_000;

export class Link {
  readonly #session: Session;
  readonly #open: Open;
  readonly #policy: Reconnect;
  readonly #handlers: Handlers;
  #socket: Socket | undefined;
  #over = false;
  #failure: unknown;
  #paused = false;
  #attempt = 0;
  /** Waiting for a connection, or for the end. */
  #waiting: (() => void)[] = [];
  #heard = 0;
  #check: ReturnType<typeof setInterval> | undefined;
  /** What was sent as input: bytes, and frames including the end. */
  #sent = { bytes: 0, frames: 0 };
  #confirmed = { bytes: 0, frames: 0 };
  /** What was sent before the question that waits for an answer. */
  #asked: { bytes: number; frames: number } | undefined;
  #askedAt = 0;
  #probing: ReturnType<typeof setTimeout> | undefined;
  /** The number of questions so far. */
  #asks = 0;
  #trips: { frames: number; after: number; done: () => void }[] = [];

  constructor(session: Session, open: Open, policy: Reconnect, handlers: Handlers) {
    this.#session = session;
    this.#open = open;
    this.#policy = policy;
    this.#handlers = handlers;
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** Opens the first connection. */
  async start(): Promise<void> {
    try {
      this.#use(await this.#open());
    } catch (error) {
      this.fail(error);
    }
  }

  #use(socket: Socket): void {
    if (this.#over) return socket.close();
    this.#socket = socket;
    this.#heard = Date.now();
    this.#asked = undefined;
    socket.onFrame = (frame) => this.#onFrame(frame);
    socket.onClose = (why) => {
      if (this.#socket === socket) this.#lost(why);
    };
    if (this.#paused) socket.pause();
    socket.send(this.#session.open());
    this.#check ??= setInterval(() => this.#checkSilence(), CHECK);
    this.#handlers.opened();
    if (this.#trips.length > 0) this.#ask();
    this.#release();
  }

  #onFrame(frame: Frame): void {
    if (this.#over) return;
    this.#heard = Date.now();
    let step;
    try {
      step = this.#session.on(frame);
    } catch (error) {
      return this.fail(error);
    }
    if (step === undefined) return;
    if (step.type === "message") {
      if (step.message.type === "processes") return this.#onAnswer();
      if (step.message.type === "attached") this.#attempt = 0;
      if (step.message.type === "started") this.#probe();
    } else if (step.type === "ended" || step.type === "detached" || step.type === "refused") {
      this.close();
    }
    this.#handlers.step(step);
  }

  /** Sends a message, if there is a connection. It does not wait for input. */
  control(message: string): boolean {
    this.#socket?.send(message);
    return this.#socket !== undefined;
  }

  /** Sends input, as soon as there is a connection that takes it. */
  async input(frame: Frame): Promise<void> {
    while (this.#socket === undefined && !this.#over) await new Promise<void>((done) => this.#waiting.push(done));
    if (this.#failure !== undefined) throw this.#failure;
    const socket = this.#socket;
    if (socket === undefined) throw new CallEndedError();
    socket.send(frame);
    this.#sent = {
      bytes: this.#sent.bytes + (typeof frame === "string" ? 0 : frame.length),
      frames: this.#sent.frames + 1,
    };
    this.#probe();
    await socket.drained();
  }

  /** Waits until the server has certainly received the input so far. */
  async flush(): Promise<void> {
    if (this.#sent.frames > this.#confirmed.frames) await this.roundTrip();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Waits until the server has answered a question that follows all that was sent, or until the end. */
  async roundTrip(): Promise<void> {
    if (this.#over) return;
    await new Promise<void>((done) => {
      this.#trips.push({ frames: this.#sent.frames, after: this.#asks + 1, done });
      this.#ask();
    });
  }

  /** Asks at most once in a while. Only a kept process can need the answer. */
  #probe(): void {
    if (!this.#session.kept || this.#sent.frames <= this.#confirmed.frames || this.#probing !== undefined) return;
    const wait = this.#askedAt + PROBE - Date.now();
    if (wait <= 0) return this.#ask();
    this.#probing = setTimeout(() => {
      this.#probing = undefined;
      this.#probe();
    }, wait);
  }

  /** Sends a question. The server reads frames in order: its answer confirms all input before. */
  #ask(): void {
    if (this.#asked !== undefined || this.#socket === undefined) return;
    this.#asked = this.#sent;
    this.#askedAt = Date.now();
    this.#asks++;
    this.#socket.send(LIST);
  }

  #onAnswer(): void {
    this.#confirmed = this.#asked ?? this.#confirmed;
    this.#asked = undefined;
    this.#trips = this.#trips.filter(({ frames, after, done }) => {
      if (frames > this.#confirmed.frames || after > this.#asks) return true;
      done();
      return false;
    });
    if (this.#trips.length > 0) this.#ask();
    else this.#probe();
  }

  #checkSilence(): void {
    const silence = Date.now() - this.#heard;
    // A socket that is not read has no news.
    if (this.#socket === undefined || this.#paused || silence < QUIET) return;
    if (silence < QUIET + ANSWER) return this.#ask();
    this.#lost(`the server was silent for ${Math.round(silence / 1000)} s`);
  }

  #lost(why: string): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
    if (this.#over) return;
    if (!this.#session.kept) {
      const remedy = "pass detach: true to let it go on without a connection";
      return this.fail(
        new ConnectionLostError(`the connection was lost (${why}), and the server cancels the call: ${remedy}`),
      );
    }
    if (this.#sent.frames > this.#confirmed.frames) {
      return this.fail(new InputLostError(this.#confirmed.bytes, this.#sent.bytes, this.#handlers.ticket()));
    }
    void this.#reconnect(why);
  }

  async #reconnect(why: string): Promise<void> {
    while (!this.#over) {
      const longest = delayOf(this.#attempt, this.#policy);
      if (longest === undefined) {
        const said = `the connection was lost (${why}), and not opened again in ${this.#attempt} attempts`;
        const remedy = "the process still runs: attach with the ticket of this error";
        return this.fail(new ConnectionLostError(`${said}: ${remedy}`, this.#handlers.ticket()));
      }
      // Many clients of one server must not come back at the same moment.
      const delay = longest * (0.5 + Math.random() / 2);
      this.#attempt++;
      this.#handlers.reconnecting(this.#attempt, delay, why);
      await new Promise<void>((done) => {
        const timer = setTimeout(done, delay);
        this.#waiting.push(() => {
          if (this.#over) {
            clearTimeout(timer);
            done();
          }
        });
      });
      if (this.#over) return;
      try {
        return this.#use(await this.#open());
      } catch (error) {
        if (!isTemporary(error)) return this.fail(error);
        why = (error as Error).message;
      }
    }
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket?.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#heard = Date.now();
    this.#socket?.resume();
  }

  get canPause(): boolean {
    return this.#socket?.canPause ?? true;
  }

  fail(error: unknown): void {
    if (this.#over) return;
    this.#failure = error;
    this.close();
    this.#handlers.failed(error);
  }

  close(): void {
    this.#over = true;
    clearInterval(this.#check);
    clearTimeout(this.#probing);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
    for (const { done } of this.#trips) done();
    this.#trips = [];
    this.#release();
  }

  #release(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const done of waiting) done();
  }
}

function isTemporary(error: unknown): boolean {
  return error instanceof ConnectError || (error instanceof ApiError && (error.status >= 502 || error.status === 429));
}
