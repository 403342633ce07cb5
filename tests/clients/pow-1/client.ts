// A client of `pow-1`, as existing clients speak it: over a websocket, or by polling. It knows the wire, not the server, and
// runs in browsers and in node.

/** The call to run. */
export interface CallMessage {
  call: string;
  params?: string[] | null;
}

export type Result = { status: "fulfilled"; value: unknown } | { status: "rejected"; reason: string };

export type Status = { status: "pending" } | Result;

/** Opens a websocket: that of browsers, or that of the package `ws`. */
export type Connect = (url: string, protocols: string[]) => WebSocket;

const PROTOCOL = "pow-1";
const NORMAL = 1000;

/** One call over one websocket. */
export class Call {
  readonly result: Promise<Result>;
  private readonly socket: WebSocket;
  private readonly opened: Promise<void>;

  constructor(
    url: string,
    call: CallMessage,
    onOutput: (text: string) => void,
    connect: Connect = (url, protocols) => new WebSocket(url, protocols),
  ) {
    const socket = connect(url, [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.opened = new Promise((resolve, reject) => {
      socket.addEventListener("open", () => {
        if (socket.protocol !== PROTOCOL) {
          reject(new Error(`the server speaks ${JSON.stringify(socket.protocol)}`));
          socket.close();
          return;
        }
        this.control(call);
        resolve();
      });
      socket.addEventListener("close", () => reject(new Error("never opened")));
      socket.addEventListener("error", () => reject(new Error("never opened")));
    });
    this.opened.catch(() => {});
    this.result = new Promise((resolve, reject) => {
      let result: Result | undefined;
      socket.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => {
        if (result !== undefined) {
          reject(new Error("a frame came after the result"));
        } else if (typeof data === "string") {
          onOutput(data);
        } else {
          result = readResult(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data)));
        }
      });
      socket.addEventListener("close", ({ code, reason }: CloseEvent) => {
        if (result !== undefined && code === NORMAL && reason === "") {
          resolve(result);
        } else {
          reject(new Error(`closed with ${code} ${JSON.stringify(reason)} and result ${JSON.stringify(result)}`));
        }
      });
      this.opened.catch(reject);
    });
    this.result.catch(() => {});
  }

  /** Sends text unchanged. A line needs its own line break. */
  async input(text: string): Promise<void> {
    await this.opened;
    this.socket.send(text);
  }

  async cancel(): Promise<void> {
    await this.opened;
    this.control({ signal: "cancel" });
  }

  async closeInput(): Promise<void> {
    await this.opened;
    this.control({ signal: "close" });
  }

  private control(message: unknown): void {
    this.socket.send(new TextEncoder().encode(JSON.stringify(message)));
  }
}

/** The error response to a request. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly text: string,
  ) {
    super(`${status}: ${text}`);
  }
}

/** One call by polling. `base` is the address of `new` and the other routes, with a slash at the end. */
export class Polled {
  private constructor(
    private readonly base: string,
    private readonly headers: Record<string, string>,
    readonly id: string,
  ) {}

  static async start(base: string, call: CallMessage, headers: Record<string, string> = {}): Promise<Polled> {
    const answer = await request("POST", `${base}new`, JSON.stringify(call), {
      ...headers,
      "content-type": "application/json",
    });
    return new Polled(base, headers, JSON.parse(answer) as string);
  }

  /** Continues a process that was started elsewhere. */
  static at(base: string, id: string, headers: Record<string, string> = {}): Polled {
    return new Polled(base, headers, id);
  }

  async status(offset?: number): Promise<{ buffer: string; result: Status; [more: string]: unknown }> {
    const query = offset === undefined ? "" : `?offset=${offset}`;
    const answer = JSON.parse(await request("GET", `${this.base}status/${this.id}${query}`, undefined, this.headers));
    return { ...answer, buffer: answer.buffer ?? "", result: readStatus(answer.result) };
  }

  async input(text: string): Promise<string> {
    return request("POST", `${this.base}input/${this.id}`, `${text}\n`, this.headers);
  }

  async closeInput(): Promise<string> {
    return request("POST", `${this.base}closeInput/${this.id}`, undefined, this.headers);
  }

  async cancel(): Promise<string> {
    return request("POST", `${this.base}cancel/${this.id}`, undefined, this.headers);
  }

  /** Polls until the process has ended. */
  async ended(): Promise<{ buffer: string; result: Result }> {
    for (;;) {
      const { buffer, result } = await this.status();
      if (result.status !== "pending") {
        return { buffer, result };
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function request(
  method: string,
  url: string,
  body: string | undefined,
  headers: Record<string, string>,
): Promise<string> {
  const answer = await fetch(url, { method, headers, ...(body === undefined ? {} : { body }) });
  const text = await answer.text();
  if (answer.status !== 200) {
    throw new Refused(answer.status, text);
  }
  return text;
}

function readStatus(value: unknown): Status {
  return (value as { status?: unknown } | null)?.status === "pending" ? { status: "pending" } : readResult(value);
}

function readResult(value: unknown): Result {
  const result = value as { status?: unknown; value?: unknown; reason?: unknown } | null;
  if (result?.status === "fulfilled" && "value" in result) {
    return { status: "fulfilled", value: result.value };
  }
  if (result?.status === "rejected" && typeof result.reason === "string") {
    return { status: "rejected", reason: result.reason };
  }
  throw new Error(`not a result: ${JSON.stringify(value)}`);
}
