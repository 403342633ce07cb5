// The processes that this page talks to: each goes on while other pages of the console are shown. It knows the meaning of
// the messages, and nothing of how they are shown.

import { get } from "./api.js";
import { Screen, CHARACTERS } from "./screen.js";
import { bytes as size } from "./text.js";
import { open } from "./wire.js";

// How many that have ended are kept to be looked at.
const ENDED = 8;
// How long a frame may be spent on output, and how much is looked at between two looks at the clock.
const SLICE_MS = 8;
const PIECE = 32 << 10;
// More than this waits only behind a flood. The screen would forget the beginning of it anyway.
const WAITING = 4 * CHARACTERS;
// How long after a lost connection, in milliseconds.
const RETRY = [250, 1000, 2000, 4000, 8000];
const KEYS = "distillery keys";

const encoder = new TextEncoder();
const all = [];
export const changes = new EventTarget();

export const list = () => [...all];
export const find = (id) => all.find((it) => it.id === id);

function tell() {
  changes.dispatchEvent(new Event("change"));
}

export function start(call, params, secrets, onDisconnect) {
  const shown = params.map((value, at) => (secrets.has(at) ? null : value));
  const process = new Running({ call, params: shown });
  process.begin({ type: "call", call, params, on_disconnect: onDisconnect });
  return process;
}

export function attach(id, call) {
  const process = new Running({ id, call, params: null });
  process.begin({ type: "attach", id, key: keys()[id] });
  return process;
}

// Not to be shown any more.
export function forget(process) {
  process.leave();
  all.splice(0, all.length, ...all.filter((it) => it !== process));
  tell();
}

// The keys of processes that are nobody's. They outlive a reload of the page, and not the tab.
function keys() {
  try {
    return JSON.parse(sessionStorage.getItem(KEYS)) ?? {};
  } catch {
    return {};
  }
}

function remember(id, key) {
  const newest = Object.entries(keys()).slice(-99);
  sessionStorage.setItem(KEYS, JSON.stringify({ ...Object.fromEntries(newest), [id]: key }));
}

class Running extends EventTarget {
  // waiting, queued, running, cancelling, lost (the connection, and it is tried again), ended, detached or refused.
  state = "waiting";
  position = null;
  kept = false;
  generation = null;
  outcome = null;
  // Why there is no process, or no connection to it.
  why = null;
  cancels = 0;
  inputEnded = false;
  used = null;
  screen = new Screen();
  #wire = null;
  #queue = [];
  // How many at its beginning are done: taking them out one by one would move all the others each time.
  #done = 0;
  #waiting = 0;
  #pumping = false;
  #seen = { stdout: 0, stderr: 0 };
  #tries = 0;
  #clock = null;

  constructor({ id = null, call, params }) {
    super();
    Object.assign(this, { id, call, params });
  }

  get live() {
    return ["running", "cancelling", "lost"].includes(this.state);
  }
  get over() {
    return ["ended", "detached", "refused"].includes(this.state);
  }

  begin(first) {
    if (!all.includes(this)) {
      all.unshift(this);
      const old = all.filter((it) => it.over).slice(ENDED);
      all.splice(0, all.length, ...all.filter((it) => !old.includes(it)));
    }
    const wire = open(first, {
      message: (message) => {
        if (this.#wire === wire) this.#hear(message);
      },
      data: (stream, offset, bytes) => {
        if (this.#wire === wire) this.#take(stream, offset, bytes);
      },
      gone: (why) => {
        if (this.#wire === wire) this.#gone(why);
      },
    });
    this.#wire = wire;
    tell();
  }

  // How long it has run, in milliseconds.
  elapsed() {
    if (!this.#clock) return 0;
    return this.#clock.ms + (this.#clock.stopped ?? performance.now()) - this.#clock.at;
  }

  // One line of stdin.
  type(line) {
    if (!this.live || this.inputEnded) return;
    this.screen.say("in", line);
    this.#wire.input(encoder.encode(`${line}\n`));
    this.#show();
  }

  endInput() {
    if (!this.live || this.inputEnded) return;
    this.inputEnded = true;
    this.#wire.say({ type: "end" });
    this.screen.say("note", "end of input");
    this.#show();
    this.#turn(this.state);
  }

  // Again: by force.
  cancel() {
    if (this.over) return;
    this.cancels += 1;
    this.#wire.say({ type: "cancel" });
    this.#turn(this.state === "running" ? "cancelling" : this.state);
  }

  detach() {
    if (this.live && this.kept) this.#wire.say({ type: "detach" });
  }

  // The page goes away from it for good.
  leave() {
    const wire = this.#wire;
    this.#wire = null;
    wire?.close();
  }

  #hear(message) {
    switch (message.type) {
      case "queued":
        this.position = message.position;
        return this.#turn("queued");
      case "started":
        Object.assign(this, { id: message.id, generation: message.generation, kept: message.kept });
        if (message.key) remember(message.id, message.key);
        this.#clock = { ms: 0, at: performance.now() };
        return this.#turn("running");
      case "attached":
        return this.#attached(message);
      case "lost":
        this.screen.skip(short(message.stream));
        this.screen.say("note", `${size(message.to - message.from)} of ${message.stream} are not kept any more`);
        this.#seen[message.stream] = Math.max(this.#seen[message.stream], message.to);
        return this.#show();
      case "heartbeat":
        this.used = {
          cpu_ms: message.cpu_ms,
          memory: message.memory,
          bytes_in: message.bytes_in,
          bytes_out: message.bytes_out,
        };
        if (this.live) this.#clock = { ms: message.elapsed_ms, at: performance.now() };
        return this.dispatchEvent(new Event("state"));
      case "cancelling":
        this.why = message.reason;
        return this.#turn("cancelling");
      case "detached":
        return this.#end("detached");
      case "ended":
        return this.#ended(message.outcome);
    }
  }

  #attached(message) {
    this.#tries = 0;
    Object.assign(this, { call: message.call, params: message.params, generation: message.generation, kept: true });
    const since = Date.now() - Date.parse(message.started);
    if (!this.#clock) this.#clock = { ms: Math.max(0, since), at: performance.now() };
    this.#turn(this.cancels > 0 ? "cancelling" : "running");
  }

  async #ended(outcome) {
    this.outcome = outcome;
    const began = this.id !== null && (this.live || this.#clock);
    this.why = outcome.message;
    this.#end(outcome.kind === "refused" && !began ? "refused" : "ended");
    // The last numbers are in the history, for who may see it.
    const seen = await get(`auth`)
      .then(({ User }) => (User && this.id ? get(`processes/${this.id}`) : null))
      .catch(() => null);
    if (!seen || seen.outcome === "running") return;
    const { cpu_ms, memory, bytes_in, bytes_out } = seen;
    this.used = { cpu_ms, memory, bytes_in, bytes_out };
    if (seen.ended) this.#clock = { ms: Date.parse(seen.ended) - Date.parse(seen.started), at: 0, stopped: 0 };
    this.dispatchEvent(new Event("state"));
  }

  #end(state) {
    if (this.#clock) this.#clock.stopped ??= performance.now();
    const wire = this.#wire;
    this.#wire = null;
    wire?.close();
    this.#turn(state);
  }

  #gone(why) {
    this.#wire = null;
    if (this.over) return;
    this.why = why ?? "the server closed the connection without a word";
    if (!this.kept || !this.id || this.#tries >= RETRY.length) {
      this.outcome = { success: false, kind: "lost", message: this.why };
      return this.#end(this.id ? "ended" : "refused");
    }
    this.#turn("lost");
    setTimeout(() => {
      if (this.state !== "lost") return;
      const { stdout, stderr } = this.#seen;
      this.begin({ type: "attach", id: this.id, key: keys()[this.id], stdout, stderr });
    }, RETRY[this.#tries]);
    this.#tries += 1;
  }

  #turn(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
    tell();
  }

  #take(stream, offset, bytes) {
    // What was there before the connection was lost may come again.
    const again = Math.min(bytes.length, Math.max(0, this.#seen[stream] - offset));
    this.#seen[stream] = Math.max(this.#seen[stream], offset + bytes.length);
    if (again < bytes.length) {
      this.#queue.push([short(stream), again ? bytes.subarray(again) : bytes]);
      this.#waiting += bytes.length - again;
    }
    if (this.#waiting > WAITING) this.#shed();
    this.#show();
  }

  // Leaves out the oldest of what waits: it would be scrolled out of the screen before anybody saw it.
  #shed() {
    let out = 0;
    while (this.#waiting > WAITING / 2) {
      const [, bytes] = this.#queue[this.#done++];
      this.#waiting -= bytes.length;
      out += bytes.length;
    }
    this.screen.skip("out");
    this.screen.skip("err");
    this.screen.say("note", `${size(out)} came too fast to be shown`);
  }

  // Soon, and once for all that comes until then. A page that is not seen has no frames.
  #show() {
    if (this.#pumping) return;
    this.#pumping = true;
    const pump = () => {
      this.#pumping = false;
      this.#pump();
    };
    if (document.hidden) setTimeout(pump, 200);
    else requestAnimationFrame(pump);
  }

  #pump() {
    const until = performance.now() + SLICE_MS;
    while (this.#done < this.#queue.length && performance.now() < until) {
      const [stream, bytes] = this.#queue[this.#done];
      this.screen.write(stream, bytes.subarray(0, PIECE));
      this.#waiting -= Math.min(PIECE, bytes.length);
      if (bytes.length > PIECE) this.#queue[this.#done] = [stream, bytes.subarray(PIECE)];
      else this.#done += 1;
    }
    if (this.#done > this.#queue.length / 2) {
      this.#queue.splice(0, this.#done);
      this.#done = 0;
    }
    this.dispatchEvent(new Event("screen"));
    if (this.#queue.length) this.#show();
  }
}

const short = (stream) => (stream === "stderr" ? "err" : "out");

// A process that ends with its client is not to be lost by a slip of the hand.
addEventListener("beforeunload", (event) => {
  if (all.some((it) => it.live && !it.kept)) event.preventDefault();
});
