// Closes sockets as a page does, in every protocol, before a call and while its guest computes. In node:
// `close.js ADDRESS` prints `ok` for each that ended in order. In a browser: `closeAll(address, WebSocket)`.

const encode = (message) => new TextEncoder().encode(JSON.stringify(message));

const calls = {
  "": (call) => encode({ call, params: [] }),
  "distillery-1": (call) => JSON.stringify({ type: "call", call }),
  "pow-1": (call) => encode({ call, params: null }),
};

/** Opens a socket, calls where there is a call, and closes; gives what the close event says. */
function close(address, Socket, protocol, call) {
  return new Promise((resolve) => {
    const socket = new Socket(`ws://${address}/api/v1/ws`, protocol ? [protocol] : []);
    const leave = () => socket.close(4321, "goodbye");
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason: String(reason), wasClean });
    socket.onerror = () => {};
    socket.onmessage = leave;
    socket.onopen = () => (call ? socket.send(calls[protocol](call)) : leave());
  });
}

async function closeAll(address, Socket) {
  const lines = [];
  for (const protocol of Object.keys(calls)) {
    for (const call of [null, "spin", "says_goodbye"]) {
      const { code, reason, wasClean } = await close(address, Socket, protocol, call);
      const inOrder = code === 4321 && reason === "goodbye" && wasClean;
      lines.push(`${inOrder ? "ok" : "not ok"}: ${protocol || "lines"}, ${call}: ${code} ${reason} ${wasClean}`);
    }
  }
  return lines;
}

if (typeof process !== "undefined" && process.argv?.[2]) {
  const sockets = [globalThis.WebSocket, require("ws").WebSocket];
  (async () => {
    for (const Socket of sockets) {
      for (const line of await closeAll(process.argv[2], Socket)) {
        console.log(line);
      }
    }
    process.exit(0);
  })();
}
