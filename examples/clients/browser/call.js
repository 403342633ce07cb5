// Runs a call from a page. The page comes from the server itself, or from an origin in `http.origins`.

/**
 * @param {string} url such as "wss://calls.example.org/api/v1/ws"
 * @param {string} name
 * @param {string[]} params
 * @param {(line: string) => void} onLine gets each line of output, and prompts
 */
export function call(url, name, params, onLine) {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  // Control messages are binary frames, lines are text frames.
  const control = (message) => socket.send(new TextEncoder().encode(JSON.stringify(message)));
  socket.onopen = () => control({ call: name, params });

  /** @type {Promise<{success: boolean, message?: string}>} */
  const result = new Promise((resolve, reject) => {
    let last;
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") onLine(data);
      else last = JSON.parse(new TextDecoder().decode(data));
    };
    socket.onclose = () => (last ? resolve(last) : reject(new Error("the connection was lost")));
  });

  return {
    result,
    /** @param {string} line */
    send: (line) => socket.send(line),
    // The second time it forces the end.
    cancel: () => control({ signal: "cancel" }),
  };
}
