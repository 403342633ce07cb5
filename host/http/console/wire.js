// The protocol `distillery-1` on a websocket: JSON messages in text frames, bytes in binary frames. Knows frames, not what
// they mean.

const PROTOCOL = "distillery-1";

/**
 * @typedef {"stdout" | "stderr"} Stream
 * @typedef {{ success: boolean, kind: string, message: string | null, status?: number | null, stop?: string | null,
 *   cleanup?: string | null, value?: unknown }} Outcome
 * @typedef {{ cpu_ms: number, memory: number, bytes_in: number, bytes_out: number }} Usage
 *
 * A message of the server.
 * @typedef {{ type: "queued", position: number }
 *   | { type: "started", id: string, call: string, generation: number, kept: boolean, key?: string }
 *   | { type: "attached", id: string, call: string, params: (string | null)[], generation: number, started: string }
 *   | { type: "lost", stream: Stream, from: number, to: number }
 *   | { type: "heartbeat", elapsed_ms: number } & Usage
 *   | { type: "cancelling", reason: string }
 *   | { type: "detached" }
 *   | { type: "ended", outcome: Outcome }} Message
 *
 * @typedef {{
 *   message: (message: Message) => void,
 *   data: (stream: Stream, offset: number, bytes: Uint8Array) => void,
 *   closed: (reason: string | null) => void,
 * }} Handlers the reason of a normal close is null
 */

/** @type {Record<number, Stream | undefined>} */
const STREAMS = { 1: "stdout", 2: "stderr" };

/**
 * Opens a socket and sends the first message.
 * @param {object} first
 * @param {Handlers} on
 */
export function open(first, on) {
  const url = new URL("/api/v1/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url, [PROTOCOL]);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify(first));
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") return on.message(JSON.parse(data));
    const head = new DataView(data);
    const stream = STREAMS[head.getUint8(0)];
    if (stream) on.data(stream, Number(head.getBigUint64(1)), new Uint8Array(data, 9));
  };
  socket.onclose = ({ code, reason }) => on.closed(code === 1000 ? null : reason || `connection lost (${code})`);
  /** @param {string | Uint8Array<ArrayBuffer>} frame */
  const send = (frame) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(frame);
  };
  return {
    /** @param {object} message */
    send: (message) => send(JSON.stringify(message)),
    /** @param {Uint8Array<ArrayBuffer>} bytes */
    input: (bytes) => send(bytes),
    close: () => socket.close(1000),
  };
}
