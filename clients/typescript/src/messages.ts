// The messages of `distillery-1`: text frames are JSON objects with a type, binary frames are bytes of a stream. Knows
// no sockets.

import { ProtocolError } from "./errors.ts";

/** The subprotocol of the websocket. */
export const PROTOCOL = "distillery-1";

export type StreamName = "stdout" | "stderr";

/** How a process ended, or why a call was not started. Fields that do not apply are null. */
export interface Result {
  success: boolean;
  kind: "exited" | "trapped" | "cancelled" | "failed" | "refused";
  /** Why it is no success. */
  message: string | null;
  /** The exit status. */
  status: number | null;
  /** The reason of a cancel. */
  reason: string | null;
  /** The strongest measure that was needed: told, interrupted or dropped. */
  stop: "told" | "interrupted" | "dropped" | null;
  cleanup: "done" | "failed" | null;
  /** The value that the call set. */
  value: unknown;
}

/** A detached process and the position in its output. It is plain JSON, and can be stored. */
export interface Ticket {
  id: string;
  /** The access key of a process without an owner. It is a secret. */
  key?: string;
  /** The offsets to continue at. Without them output begins with the oldest byte that is kept. */
  stdout?: number;
  stderr?: number;
}

/** A range of bytes of a stream. */
export interface Range {
  from: number;
  to: number;
}

/** What the server sends beside output, with the names of the wire. */
export type ServerMessage =
  | { type: "queued"; position: number }
  | { type: "started"; id: string; call: string; generation: number; kept: boolean; key?: string }
  | {
      type: "attached";
      id: string;
      call: string;
      params: (string | null)[];
      generation: number;
      started: string;
      running: boolean;
      stdout: Range;
      stderr: Range;
    }
  | { type: "lost"; stream: StreamName; from: number; to: number }
  | {
      type: "heartbeat";
      elapsed_ms: number;
      cpu_ms: number;
      memory: number;
      bytes_in: number;
      bytes_out: number;
    }
  | { type: "cancelling"; reason: string }
  | { type: "processes"; processes: unknown[] }
  | { type: "detached" }
  | { type: "ended"; outcome: Result };

/** Bytes of a stream, and their offset in it. */
export interface Data {
  type: "data";
  stream: StreamName;
  offset: number;
  bytes: Uint8Array;
}

/** A message of a newer server, which this release ignores. */
export interface Unknown {
  type: "unknown";
}

export type Frame = string | Uint8Array;

export const END = '{"type":"end"}';
export const CANCEL = '{"type":"cancel"}';
export const DETACH = '{"type":"detach"}';
export const LIST = '{"type":"list"}';

/** Returns the message that starts a call. Without `detach` the manifest decides. */
export function callMessage(call: string, params: readonly string[], detach: boolean | undefined): string {
  const message = { type: "call", call, params };
  return JSON.stringify(detach === undefined ? message : { ...message, on_disconnect: detach ? "detach" : "cancel" });
}

/** Returns the message that continues with a process. */
export function attachMessage({ id, key, stdout, stderr }: Ticket): string {
  return JSON.stringify({ type: "attach", id, key, stdout, stderr });
}

const STREAMS: Record<number, StreamName> = { 1: "stdout", 2: "stderr" };
/** The length of the head: the stream, and the offset. */
const HEAD = 9;

/** Reads a frame of the server. */
export function decode(frame: Frame): ServerMessage | Data | Unknown {
  return typeof frame === "string" ? decodeMessage(frame) : decodeData(frame);
}

function decodeData(frame: Uint8Array): Data {
  if (frame.length <= HEAD) throw new ProtocolError("a frame of data that is too short");
  const view = new DataView(frame.buffer, frame.byteOffset, HEAD);
  const stream = STREAMS[view.getUint8(0)];
  if (stream === undefined) throw new ProtocolError("data of an unknown stream");
  const offset = view.getBigUint64(1);
  if (offset > Number.MAX_SAFE_INTEGER) throw new ProtocolError("an offset that is too large");
  return { type: "data", stream, offset: Number(offset), bytes: frame.subarray(HEAD) };
}

type Fields = Record<string, unknown>;

const string = (value: unknown) => typeof value === "string";
const number = (value: unknown) => typeof value === "number";
const boolean = (value: unknown) => typeof value === "boolean";
const range = (value: unknown) => isObject(value) && number(value["from"]) && number(value["to"]);
const outcome = (value: unknown) => isObject(value) && boolean(value["success"]) && string(value["kind"]);

/** What each message must have at least. */
const REQUIRED: Record<ServerMessage["type"], Record<string, (value: unknown) => boolean>> = {
  queued: { position: number },
  started: { id: string, call: string, kept: boolean },
  attached: { id: string, call: string, running: boolean, stdout: range, stderr: range },
  lost: { stream: (value) => value === "stdout" || value === "stderr", from: number, to: number },
  heartbeat: { elapsed_ms: number },
  cancelling: { reason: string },
  processes: { processes: Array.isArray },
  detached: {},
  ended: { outcome },
};

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function decodeMessage(text: string): ServerMessage | Unknown {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    throw new ProtocolError("a message that is not JSON");
  }
  if (!isObject(message) || typeof message["type"] !== "string") throw new ProtocolError("a message without a type");
  if (!Object.hasOwn(REQUIRED, message["type"])) return { type: "unknown" };
  for (const [name, holds] of Object.entries(REQUIRED[message["type"] as ServerMessage["type"]])) {
    if (!holds(message[name])) throw new ProtocolError(`a message of type ${message["type"]} without a proper ${name}`);
  }
  return message as unknown as ServerMessage;
}
