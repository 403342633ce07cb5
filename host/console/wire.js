// The protocol `distillery-1` on a websocket: messages of JSON in text, bytes in binary frames. It knows frames, and
// nothing of what they mean.

const PROTOCOL = "distillery-1";
const STREAMS = { 1: "stdout", 2: "stderr" };

// Opens a socket and says `first`. `heard` has: message(object), data(stream, offset, bytes), gone(why or nothing).
export function open(first, heard) {
  const url = new URL("/api/v1/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url, [PROTOCOL]);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify(first));
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") return heard.message(JSON.parse(data));
    const head = new DataView(data);
    const stream = STREAMS[head.getUint8(0)];
    if (stream) heard.data(stream, Number(head.getBigUint64(1)), new Uint8Array(data, 9));
  };
  socket.onclose = ({ code, reason }) =>
    heard.gone(code === 1000 ? null : reason || `the connection was lost (${code})`);
  const send = (what) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(what);
  };
  return {
    say: (message) => send(JSON.stringify(message)),
    input: (bytes) => send(bytes),
    close: () => socket.close(1000),
  };
}
