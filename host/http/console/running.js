// The processes that this page is connected to. They keep running while other pages of the console are shown. Knows what
// the messages mean, not how they are shown.

import { get } from "./api.js";
import { Output } from "./output.js";
import { Screen } from "./screen.js";
import { bytes as size } from "./text.js";
import { open } from "./wire.js";

/** @import { ProcessRecord } from "./api.js" */
/** @import { Message, Outcome, Stream, Usage } from "./wire.js" */
/**
 * `lost`: the connection was lost and is opened again. `refused`: no process was started, or none can be attached to.
 * @typedef {"waiting" | "queued" | "running" | "cancelling" | "lost" | "ended" | "detached" | "refused"} State
 */

// Ended processes that can still be shown.
const MAX_ENDED = 8;
// Delays before each attempt to reconnect.
const RECONNECT_MS = [250, 1000, 2000, 4000, 8000];
const KEYS_ITEM = "distillery keys";
const MAX_KEYS = 100;

const encoder = new TextEncoder();
/** @type {Running[]} */
let all = [];
/** Sends a `change` event when a process starts, ends or changes its state. */
export const changes = new EventTarget();

export const list = () => [...all];
/** @param {string} id */
export const find = (id) => all.find((it) => it.id === id);

function notifyChange() {
  changes.dispatchEvent(new Event("change"));
}

/**
 * Starts a call.
 * @param {string} call
 * @param {string[]} params
 * @param {Set<number>} secrets positions of the parameters that are never shown
 * @param {"cancel" | "detach"} onDisconnect
 */
export function start(call, params, secrets, onDisconnect) {
  const shown = params.map((value, at) => (secrets.has(at) ? null : value));
  const process = new Running({ call, params: shown });
  process.begin({ type: "call", call, params, on_disconnect: onDisconnect });
  return process;
}

/**
 * Attaches to a process.
 * @param {string} id
 * @param {string | null} call
 */
export function attach(id, call) {
  const process = new Running({ id, call, params: null });
  process.begin({ type: "attach", id, key: storedKeys()[id] });
  return process;
}

/**
 * Disconnects from a process and removes it from the list.
 * @param {Running} process
 */
export function forget(process) {
  process.disconnect();
  all = all.filter((it) => it !== process);
  notifyChange();
}

/**
 * Returns the access keys of processes without an owner. They survive a reload of the page, but not the tab.
 * @returns {Record<string, string>}
 */
function storedKeys() {
  try {
    return JSON.parse(sessionStorage.getItem(KEYS_ITEM) ?? "{}");
  } catch {
    return {};
  }
}

/**
 * @param {string} id
 * @param {string} key
 */
function storeKey(id, key) {
  const newest = Object.entries(storedKeys()).slice(1 - MAX_KEYS);
  sessionStorage.setItem(KEYS_ITEM, JSON.stringify({ ...Object.fromEntries(newest), [id]: key }));
}

/**
 * A process and the connection to it. Sends `state` when a property changes and `screen` when there is output.
 */
export class Running extends EventTarget {
  /** @type {State} */
  state = "waiting";
  /** @type {string | null} */
  id;
  /** @type {string | null} */
  call;
  /** @type {(string | null)[] | null} */
  params;
  /** @type {number | null} the position in the queue */
  position = null;
  // Whether the process outlives its client.
  kept = false;
  /** @type {number | null} */
  generation = null;
  /** @type {Outcome | null} */
  outcome = null;
  /** @type {string | null} why there is no process, or no connection to it */
  reason = null;
  cancels = 0;
  inputClosed = false;
  /** @type {string[]} lines of input that can be recalled; gone with the process */
  typed = [];
  /** @type {Usage | null} */
  used = null;
  screen = new Screen();
  /** @type {ReturnType<typeof open> | null} */
  #wire = null;
  #output = new Output(this.screen, () => this.dispatchEvent(new Event("screen")));
  // The offset behind the last byte that has come.
  #received = { stdout: 0, stderr: 0 };
  #attempts = 0;
  /** @type {{ ms: number, at: number, stopped?: number } | null} `ms` had elapsed at the time `at` */
  #clock = null;

  /** @param {{ id?: string | null, call: string | null, params: (string | null)[] | null }} process */
  constructor({ id = null, call, params }) {
    super();
    this.id = id;
    this.call = call;
    this.params = params;
  }

  get live() {
    return ["running", "cancelling", "lost"].includes(this.state);
  }

  get over() {
    return ["ended", "detached", "refused"].includes(this.state);
  }

  get acceptsInput() {
    return this.live && !this.inputClosed;
  }

  // Whether a message reaches the process now. It does not while the connection is opened again.
  get #connected() {
    return this.state === "running" || this.state === "cancelling";
  }

  /**
   * Connects, and sends the first message.
   * @param {object} first
   */
  begin(first) {
    if (!all.includes(this)) {
      const old = all.filter((it) => it.over).slice(MAX_ENDED);
      all = [this, ...all.filter((it) => !old.includes(it))];
    }
    /** @type {ReturnType<typeof open>} */
    const wire = open(first, {
      message: (message) => {
        if (this.#wire === wire) this.#onMessage(message);
      },
      data: (stream, offset, bytes) => {
        if (this.#wire === wire) this.#onData(stream, offset, bytes);
      },
      closed: (reason) => {
        if (this.#wire === wire) this.#onClosed(reason);
      },
    });
    this.#wire = wire;
    notifyChange();
  }

  // Returns how long the process has run, in milliseconds.
  elapsed() {
    if (!this.#clock) return 0;
    return this.#clock.ms + (this.#clock.stopped ?? performance.now()) - this.#clock.at;
  }

  /**
   * Sends one line of stdin.
   * @param {string} line without its line break
   * @param {boolean} [hidden] whether the screen must not show it
   * @returns {boolean} whether it was sent
   */
  type(line, hidden = false) {
    if (!this.#connected || this.inputClosed) return false;
    this.screen.addLine("in", hidden ? "•••" : line);
    this.#wire?.input(encoder.encode(`${line}\n`));
    this.#output.requestFrame();
    return true;
  }

  closeInput() {
    if (!this.#connected || this.inputClosed) return;
    this.inputClosed = true;
    this.#wire?.send({ type: "end" });
    this.screen.addLine("note", "stdin closed");
    this.#output.requestFrame();
    this.#setState(this.state);
  }

  // Cancels the process. A second cancel forces its end.
  cancel() {
    if (!this.#connected) return;
    this.cancels += 1;
    this.#wire?.send({ type: "cancel" });
    this.#setState("cancelling");
  }

  detach() {
    if (this.live && this.kept) this.#wire?.send({ type: "detach" });
  }

  disconnect() {
    const wire = this.#wire;
    this.#wire = null;
    wire?.close();
  }

  /** @param {Message} message */
  #onMessage(message) {
    switch (message.type) {
      case "queued":
        this.position = message.position;
        return this.#setState("queued");
      case "started":
        Object.assign(this, { id: message.id, generation: message.generation, kept: message.kept });
        if (message.key) storeKey(message.id, message.key);
        this.#clock = { ms: 0, at: performance.now() };
        return this.#setState("running");
      case "attached":
        return this.#attached(message);
      case "lost":
        return this.#lost(message.stream, message.from, message.to);
      case "heartbeat":
        this.used = usage(message);
        if (this.live) this.#clock = { ms: message.elapsed_ms, at: performance.now() };
        return this.dispatchEvent(new Event("state"));
      case "cancelling":
        this.reason = message.reason;
        return this.#setState("cancelling");
      case "detached":
        return this.#end("detached");
      case "ended":
        return this.#ended(message.outcome);
    }
  }

  /** @param {Extract<Message, { type: "attached" }>} message */
  #attached(message) {
    this.#attempts = 0;
    Object.assign(this, { call: message.call, params: message.params, generation: message.generation, kept: true });
    const since = Date.now() - Date.parse(message.started);
    if (!this.#clock) this.#clock = { ms: Math.max(0, since), at: performance.now() };
    this.#setState(this.cancels > 0 ? "cancelling" : "running");
  }

  /**
   * Notes output that the server has dropped.
   * @param {Stream} stream
   * @param {number} from
   * @param {number} to
   */
  #lost(stream, from, to) {
    this.screen.skip(short(stream));
    this.screen.addLine("note", `${size(to - from)} of ${stream} were dropped`);
    this.#received[stream] = Math.max(this.#received[stream], to);
    this.#output.requestFrame();
  }

  /** @param {Outcome} outcome */
  async #ended(outcome) {
    this.outcome = outcome;
    const began = this.id !== null && (this.live || this.#clock);
    this.reason = outcome.message;
    this.#end(outcome.kind === "refused" && !began ? "refused" : "ended");
    const record = await loadOwn(this.id).catch(() => null);
    if (!record || record.outcome === "running") return;
    this.used = usage(record);
    if (record.ended) this.#clock = { ms: Date.parse(record.ended) - Date.parse(record.started), at: 0, stopped: 0 };
    this.dispatchEvent(new Event("state"));
  }

  /** @param {State} state */
  #end(state) {
    if (this.#clock) this.#clock.stopped ??= performance.now();
    const wire = this.#wire;
    this.#wire = null;
    wire?.close();
    this.#setState(state);
  }

  /** @param {string | null} reason */
  #onClosed(reason) {
    this.#wire = null;
    if (this.over) return;
    this.reason = reason ?? "the server closed the connection and gave no reason";
    if (!this.kept || !this.id || this.#attempts >= RECONNECT_MS.length) {
      this.outcome = { success: false, kind: "lost", message: this.reason };
      return this.#end(this.id ? "ended" : "refused");
    }
    this.#setState("lost");
    const { id } = this;
    setTimeout(() => {
      if (this.state !== "lost") return;
      this.begin({ type: "attach", id, key: storedKeys()[id], ...this.#received });
    }, RECONNECT_MS[this.#attempts]);
    this.#attempts += 1;
  }

  /** @param {State} state */
  #setState(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
    notifyChange();
  }

  /**
   * @param {Stream} stream
   * @param {number} offset
   * @param {Uint8Array} bytes
   */
  #onData(stream, offset, bytes) {
    // After a lost connection, the first bytes can be ones that have come already.
    const known = Math.min(bytes.length, Math.max(0, this.#received[stream] - offset));
    this.#received[stream] = Math.max(this.#received[stream], offset + bytes.length);
    if (known < bytes.length) this.#output.add(short(stream), bytes.subarray(known));
  }
}

/** @param {Stream} stream */
const short = (stream) => (stream === "stderr" ? "err" : "out");

/**
 * @param {Usage} of
 * @returns {Usage}
 */
const usage = ({ cpu_ms, memory, bytes_in, bytes_out }) => ({ cpu_ms, memory, bytes_in, bytes_out });

/**
 * Returns the record of an ended process, which has its final usage. Null if the caller is anonymous.
 * @param {string | null} id
 * @returns {Promise<ProcessRecord | null>}
 */
async function loadOwn(id) {
  const { User } = await get("auth");
  return User && id ? get(`processes/${id}`) : null;
}

// The browser asks before it closes the page if a process would end with it.
addEventListener("beforeunload", (event) => {
  if (all.some((it) => it.live && !it.kept)) event.preventDefault();
});
