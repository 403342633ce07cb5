// The URL of a server, and the rules for a token.

/** The addresses of a server. */
export interface Address {
  /** The base of the JSON API, without a slash at the end. */
  api: string;
  /** The websocket. */
  socket: string;
  /** Whether others on the network cannot read along. */
  isPrivate: boolean;
}

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

/** Reads the URL of a server: `https://host`, with a port and the path of a proxy if there is one. */
export function parseAddress(text: string): Address {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // The same answer as for other URLs that are none of a server.
  }
  const scheme =
    url === undefined
      ? undefined
      : { "http:": "http", "ws:": "http", "https:": "https", "wss:": "https" }[url.protocol];
  if (url === undefined || scheme === undefined || url.username || url.password || url.search || url.hash) {
    throw new TypeError(
      `${JSON.stringify(text)} is not the URL of a server: write http://host:port or https://host, ` +
        "with the path of a proxy if there is one",
    );
  }
  const place = `://${url.host}${url.pathname.replace(/\/+$/, "")}`;
  return {
    api: `${scheme}${place}/api/v1`,
    socket: `${scheme === "https" ? "wss" : "ws"}${place}/api/v1/ws`,
    isPrivate: scheme === "https" || LOOPBACK.test(url.hostname),
  };
}

/** Returns the token without surrounding space. */
export function parseToken(text: string): string {
  const token = text.trim();
  // What a header and the name of a subprotocol can hold.
  if (!/^[A-Za-z0-9._~+-]+$/.test(token)) {
    throw new TypeError("this is not a token: make one with `distillery token add`");
  }
  return token;
}
