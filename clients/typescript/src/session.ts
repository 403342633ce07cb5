// One call over any number of connections: which message opens each of them, and what the frames of the server mean at
// the position that was reached. A state machine without sockets or clock.

import { ProtocolError } from "./errors.ts";
import { attachMessage, callMessage, decode } from "./messages.ts";
import type { Frame, Result, ServerMessage, StreamName, Ticket } from "./messages.ts";

/** What a session begins with. */
export type Start = { call: string; params: readonly string[]; detach?: boolean | undefined } | { attach: Ticket };

/** What a frame means to the call. */
export type Step =
  | { type: "data"; stream: StreamName; bytes: Uint8Array }
  | { type: "lost"; stream: StreamName; from: number; to: number }
  | { type: "message"; message: ServerMessage }
  | { type: "ended"; result: Result }
  | { type: "detached" }
  /** The server refuses this connection. The process can still run. */
  | { type: "refused"; message: string };

export class Session {
  readonly #start: Start;
  /** Whether the server has said that the process runs. */
  #known = false;
  #kept: boolean;
  #id: string | undefined;
  #key: string | undefined;
  /** The offset of the next byte. `undefined` until the server says where the output begins. */
  #positions: Record<StreamName, number | undefined>;

  constructor(start: Start) {
    this.#start = start;
    const ticket = "attach" in start ? start.attach : undefined;
    this.#kept = ticket !== undefined;
    this.#id = ticket?.id;
    this.#key = ticket?.key;
    this.#positions =
      ticket === undefined ? { stdout: 0, stderr: 0 } : { stdout: ticket.stdout, stderr: ticket.stderr };
  }

  get id(): string | undefined {
    return this.#id;
  }

  get key(): string | undefined {
    return this.#key;
  }

  /** Whether a new connection can continue with the process. */
  get kept(): boolean {
    return this.#kept;
  }

  /** Whether the process goes on without a client, or will once it has started. */
  get detaches(): boolean {
    return this.#kept || (!this.#known && "call" in this.#start && this.#start.detach === true);
  }

  /** Returns the first frame of a connection. */
  open(): string {
    if (this.#id === undefined && "call" in this.#start) {
      return callMessage(this.#start.call, this.#start.params, this.#start.detach);
    }
    return attachMessage(this.ticket(this.#positions));
  }

  /** Returns a ticket with these positions. */
  ticket(positions: { stdout?: number | undefined; stderr?: number | undefined }): Ticket {
    const ticket: Ticket = { id: this.#id ?? "" };
    if (this.#key !== undefined) ticket.key = this.#key;
    if (positions.stdout !== undefined) ticket.stdout = positions.stdout;
    if (positions.stderr !== undefined) ticket.stderr = positions.stderr;
    return ticket;
  }

  /** Takes a frame of the server. */
  on(frame: Frame): Step | undefined {
    const event = decode(frame);
    switch (event.type) {
      case "data":
        return this.#onData(event.stream, event.offset, event.bytes);
      case "unknown":
        return undefined;
      case "started":
        this.#known = true;
        this.#kept = event.kept;
        this.#id = event.id;
        this.#key = event.key;
        break;
      case "attached":
        this.#known = true;
        this.#positions.stdout ??= event.stdout.from;
        this.#positions.stderr ??= event.stderr.from;
        break;
      case "lost":
        return this.#onLost(event.stream, event.from, event.to);
      case "detached":
        return { type: "detached" };
      case "ended":
        // A process that was started cannot be refused any more: the server means this connection.
        if (event.outcome.kind === "refused" && this.#known) {
          return { type: "refused", message: event.outcome.message ?? "refused" };
        }
        return { type: "ended", result: event.outcome };
    }
    return { type: "message", message: event };
  }

  #onData(stream: StreamName, offset: number, bytes: Uint8Array): Step | undefined {
    const position = this.#positions[stream] ?? offset;
    if (offset > position) throw new ProtocolError(`${stream} from ${offset} on instead of ${position}`);
    const end = offset + bytes.length;
    if (end <= position) return undefined;
    this.#positions[stream] = end;
    return { type: "data", stream, bytes: bytes.subarray(position - offset) };
  }

  #onLost(stream: StreamName, from: number, to: number): Step | undefined {
    const position = this.#positions[stream] ?? from;
    if (to <= position) return undefined;
    this.#positions[stream] = to;
    return { type: "lost", stream, from: position, to };
  }
}
