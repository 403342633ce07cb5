// The errors of the library. Each says what is wrong, and then what to do.

import type { Result, StreamName, Ticket } from "./messages.ts";

/** The base of all errors of this library. */
export class DistilleryError extends Error {
  override name = "DistilleryError";
}

/** The server cannot be reached. */
export class ConnectError extends DistilleryError {
  override name = "ConnectError";
}

/** The server answered a request with an error. */
export class ApiError extends DistilleryError {
  override name = "ApiError";
  /** The HTTP status. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The server sent something that the protocol does not have. */
export class ProtocolError extends DistilleryError {
  override name = "ProtocolError";

  constructor(what: string) {
    super(`the server sent ${what}: use the client of its release`);
  }
}

/** The call has ended, and takes no more input. */
export class CallEndedError extends DistilleryError {
  override name = "CallEndedError";

  constructor() {
    super("the call has ended: it takes no more input");
  }
}

/** The connection was lost, and the call cannot be continued automatically. */
export class ConnectionLostError extends DistilleryError {
  override name = "ConnectionLostError";
  /** The process, if it can still run. `attach` continues with it. */
  readonly ticket: Ticket | undefined;

  constructor(message: string, ticket?: Ticket) {
    super(message);
    this.ticket = ticket;
  }
}

/** The connection was lost while input was on its way: the process can have a part of it. */
export class InputLostError extends ConnectionLostError {
  override name = "InputLostError";
  /** The number of bytes that the server has certainly received. */
  readonly confirmed: number;
  /** The number of bytes that were sent. */
  readonly sent: number;

  constructor(confirmed: number, sent: number, ticket: Ticket) {
    super(
      `the connection was lost while input was on its way: the process has between ${confirmed} and ${sent} bytes ` +
        "of it. It still runs: attach with the ticket of this error to see its output, or cancel it and start again",
      ticket,
    );
    this.confirmed = confirmed;
    this.sent = sent;
  }
}

/** The client has detached from the call, which goes on. */
export class DetachedError extends DistilleryError {
  override name = "DetachedError";
  readonly ticket: Ticket;

  constructor(ticket: Ticket) {
    super("the client has detached, and the process goes on: attach with the ticket of this error");
    this.ticket = ticket;
  }
}

/** Output that is no longer kept. The next read continues behind the gap. */
export class OutputLostError extends DistilleryError {
  override name = "OutputLostError";
  readonly stream: StreamName;
  /** The offset of the first lost byte. */
  readonly from: number;
  /** The offset of the next byte that can be read. */
  readonly to: number;

  constructor(stream: StreamName, from: number, to: number) {
    super(
      `the bytes ${from} to ${to} of ${stream} are lost: read faster, raise limits.kept_output, ` +
        "or read on to continue behind the gap",
    );
    this.stream = stream;
    this.from = from;
    this.to = to;
  }
}

/** The call ended without success, or was not started. */
export class CallFailedError extends DistilleryError {
  override name = "CallFailedError";
  readonly result: Result;

  constructor(call: string, result: Result) {
    super(failure(call, result));
    this.result = result;
  }
}

/** Says how a call failed, and the remedy for a call that was not started. */
export function failure(call: string, result: Result): string {
  const message = result.message ?? result.kind;
  const remedy = result.kind === "refused" ? remedyOfRefusal(message) : undefined;
  return `call ${JSON.stringify(call)} failed: ${message}${remedy === undefined ? "" : `: ${remedy}`}`;
}

function remedyOfRefusal(message: string): string | undefined {
  if (message.startsWith("unknown call ")) return "api.calls() lists the calls that you can run";
  if (message.startsWith("not authorized ")) return "use a token that has the scope of this call";
  if (message.startsWith("parameter ")) return "api.calls() lists the parameters and their rules";
  if (message.startsWith("too many ")) return "try again later";
  return undefined;
}

/** Says what an error answer means, with the remedy that the server does not know. */
export function apiFailure(status: number, message: string | undefined): string {
  const said = message ?? `the server answered with status ${status}`;
  switch (status) {
    case 401:
      return `${said}: make a new token with \`distillery token add\`, and pass it as the option token`;
    case 501:
      return `${said}: the operator turns the API on with http.api: true`;
    case 502:
    case 503:
    case 504:
      return `${said}: try again later`;
    default:
      return said;
  }
}
