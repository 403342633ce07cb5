// What both platforms export.

export type * as Types from "./api-types.ts";
export { Api } from "./api.ts";
export type { ProcessFilter } from "./api.ts";
export { Call } from "./call.ts";
export type { AttachOptions, CallEvent, CallOptions } from "./call.ts";
export type { Options, Ran } from "./client.ts";
export {
  ApiError,
  CallEndedError,
  CallFailedError,
  ConnectError,
  ConnectionLostError,
  DetachedError,
  DistilleryError,
  InputLostError,
  OutputLostError,
  ProtocolError,
} from "./errors.ts";
export type { Input } from "./input.ts";
export type { Result, ServerMessage, StreamName, Ticket } from "./messages.ts";
export { Output } from "./output.ts";
export type { Reconnect } from "./retry.ts";
