// One process: its terminal where this page talks to it or may attach to it, and what is known of it where not.

import { caller, get, may, remove } from "./api.js";
import { runAgain } from "./calls.js";
import { badge, copyButton, fill, h, notice, say } from "./dom.js";
import * as running from "./running.js";
import { Terminal } from "./terminal.js";
import { bytes, duration, moment, number, param } from "./text.js";

// How often an end is looked for where nothing tells of it.
const LOOK_MS = 2000;
// Lines that were sent, for the arrow keys.
const REMEMBERED = 200;
const sent = [];

const KINDS = {
  waiting: ["", "starting"],
  queued: ["", "waits for a place"],
  running: ["live", "running"],
  cancelling: ["warn", "ending"],
  lost: ["warn", "connection lost, trying again"],
  detached: ["", "left running"],
  refused: ["bad", "refused"],
};

export const OUTCOMES = {
  running: ["live", "running"],
  success: ["good", "success"],
  exited: ["bad", "failed"],
  trapped: ["bad", "trapped"],
  cancelled: ["warn", "cancelled"],
  failed: ["bad", "failed"],
  interrupted: ["bad", "interrupted"],
};

export async function show(context) {
  const { main, at, signal, title } = context;
  title("Process");
  let process = running.find(at.name);
  let seen = null;
  if (!process || process.state === "detached" || process.state === "refused") {
    if (process) running.forget(process);
    seen = await details(at.name);
    if (signal.aborted) return;
    // Who cannot look it up may still have the key of it.
    if (!seen || seen.kept) {
      process = running.attach(at.name, seen?.call ?? null);
      await settled(process);
      if (signal.aborted) return;
      if (process.state === "refused") {
        running.forget(process);
        if (!seen)
          return fill(
            main,
            head(at.name),
            notice("bad", h("strong", {}, "This process cannot be shown: "), `${process.why}.`),
            caller.user ? null : h("p", { class: "row" }, h("a", { class: "button", href: "#/login" }, "Log in")),
          );
        process = null;
      }
    } else process = null;
  }
  if (process) terminal(context, process);
  else past(context, seen);
}

async function details(id) {
  if (!caller.user && !may("processes:*")) return null;
  return get(`processes/${encodeURIComponent(id)}`).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
}

// Once it is known whether it is there.
function settled(process) {
  return new Promise((resolve) => {
    const look = () => {
      if (process.state !== "waiting") resolve();
    };
    process.addEventListener("state", look);
    look();
  });
}

function head(title, ...more) {
  return h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title), ...more);
}

const written = (call, params) => [call, ...(params ?? []).map(param)].join(" ");

function terminal({ main, signal, title }, process) {
  title(process.call ?? "Process");
  const screen = new Terminal(process.screen);
  const state = h("span", { class: "state", role: "status" });
  const facts = h("dl", { class: "facts" });
  const outcome = h("div");
  const input = h("input", {
    type: "text",
    "aria-label": "Input: one line",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    enterkeyhint: "send",
  });
  const send = h("button", {}, "Send");
  const end = h(
    "button",
    { type: "button", "aria-keyshortcuts": "Control+D", onclick: () => process.endInput() },
    "End input",
  );
  const cancel = h("button", {
    type: "button",
    class: "danger",
    "aria-keyshortcuts": "Control+C",
    onclick: () => process.cancel(),
  });
  const leave = h("button", { type: "button", onclick: () => process.detach() }, "Leave running");
  const repeat = h("button", { type: "button", onclick: () => runAgain(process) }, "Run again");
  const back = h(
    "button",
    {
      type: "button",
      onclick: () => {
        running.forget(process);
        dispatchEvent(new Event("again"));
      },
    },
    "Attach again",
  );
  const save = h("button", { type: "button", onclick: () => download(process) }, "Download");
  const copy = copyButton("Copy all", () => process.screen.text());
  const line = h(
    "form",
    {
      class: "input",
      onsubmit: (event) => {
        event.preventDefault();
        if (!process.live || process.inputEnded) return;
        remember(input.value);
        process.type(input.value);
        input.value = "";
      },
    },
    h("span", { class: "prompt", "aria-hidden": "true" }, "›"),
    input,
    send,
    end,
  );
  keys(input, process);

  let last = null;
  const draw = () => {
    const [kind, text] = process.outcome ? ending(process) : KINDS[process.state];
    if (last !== text) {
      fill(state, badge(kind, text));
      last = text;
    }
    fill(
      facts,
      fact("Elapsed", duration(process.elapsed())),
      process.used && [
        fact("CPU", duration(process.used.cpu_ms)),
        fact("Memory", bytes(process.used.memory)),
        fact("In", bytes(process.used.bytes_in)),
        fact("Out", bytes(process.used.bytes_out)),
      ],
    );
  };
  const turn = () => {
    const typing = process.live && !process.inputEnded;
    const had = line.contains(document.activeElement) || document.activeElement === cancel;
    line.hidden = !typing;
    cancel.hidden = !process.live;
    cancel.textContent = process.cancels > 0 || process.state === "cancelling" ? "Force to end" : "Cancel";
    leave.hidden = !(process.live && process.kept);
    repeat.hidden = !process.over || process.params === null;
    back.hidden = process.state !== "detached";
    draw();
    fill(
      outcome,
      process.outcome && verdict(process.outcome),
      process.state === "detached" && notice("", "It goes on without this page."),
    );
    // What had the focus is gone.
    if (had && !typing && !line.contains(document.activeElement)) (cancel.hidden ? screen : cancel).focus();
  };
  process.addEventListener("state", turn, { signal });
  process.addEventListener("screen", () => screen.update(), { signal });
  const clock = setInterval(() => {
    if (process.live) draw();
  }, 500);
  signal.addEventListener("abort", () => clearInterval(clock));

  fill(
    main,
    h(
      "div",
      { class: "process" },
      head(process.call ?? process.id, state, process.kept && badge("", "kept")),
      h("p", { class: "command" }, h("code", {}, written(process.call ?? "", process.params))),
      h("div", { class: "strip" }, facts, h("div", { class: "row" }, cancel, leave, back, repeat)),
      screen.element,
      line,
      outcome,
      h(
        "div",
        { class: "strip" },
        h(
          "p",
          { class: "aside" },
          "Process ",
          h("code", {}, process.id),
          process.generation !== null && `, generation ${process.generation}`,
        ),
        h("div", { class: "row small" }, copy, save),
      ),
    ),
  );
  turn();
  screen.update();
  if (process.live) input.focus({ preventScroll: true });
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

// What was typed is sent; the keys of a terminal mean what they mean in one.
function keys(input, process) {
  let at = sent.length;
  let draft = "";
  const go = (to) => {
    if (at === sent.length) draft = input.value;
    at = Math.min(Math.max(to, 0), sent.length);
    input.value = at === sent.length ? draft : sent[at];
    input.setSelectionRange(input.value.length, input.value.length);
  };
  input.addEventListener("keydown", (event) => {
    const { key, ctrlKey, altKey, metaKey } = event;
    if (altKey || metaKey) return;
    if (key === "ArrowUp") go(at - 1);
    else if (key === "ArrowDown") go(at + 1);
    else if (ctrlKey && key === "d") process.endInput();
    else if (ctrlKey && key === "c" && input.selectionStart === input.selectionEnd && !String(getSelection()))
      process.cancel();
    else {
      if (key === "Enter") {
        at = sent.length + 1;
        draft = "";
      }
      return;
    }
    event.preventDefault();
  });
  // A field holds one line: of several, all but the last are sent.
  input.addEventListener("paste", (event) => {
    const lines = event.clipboardData.getData("text").split(/\r\n|\r|\n/);
    if (lines.length < 2) return;
    event.preventDefault();
    const [from, to] = [input.selectionStart, input.selectionEnd];
    lines[0] = input.value.slice(0, from) + lines[0];
    const rest = lines.pop() + input.value.slice(to);
    lines.forEach((it) => process.type(it));
    input.value = rest;
  });
}

function remember(line) {
  if (line !== "" && sent.at(-1) !== line) sent.push(line);
  if (sent.length > REMEMBERED) sent.shift();
}

function download(process) {
  const link = h("a", {
    href: URL.createObjectURL(new Blob([process.screen.text()], { type: "text/plain" })),
    download: `${process.call}-${process.id}.txt`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function ending({ outcome }) {
  if (outcome.success) return ["good", "success"];
  if (outcome.kind === "lost") return ["bad", "connection lost"];
  return OUTCOMES[outcome.kind] ?? ["bad", outcome.kind];
}

const STOPS = {
  told: "It ended by itself when it was told to.",
  interrupted: "It was interrupted while it computed.",
  dropped: "It was stopped while it waited.",
};

// How it ended, in full.
function verdict({ success, kind, message, status, stop, cleanup, value }) {
  const facts = [
    status !== null && status !== undefined && status !== 0 && ["Exit status", number(status)],
    stop && ["Stopped", STOPS[stop] ?? stop],
    cleanup && ["Cleanup", cleanup],
  ].filter(Boolean);
  const [, word] = ending({ outcome: { success, kind } });
  const title = word[0].toUpperCase() + word.slice(1);
  return h(
    "section",
    { class: `outcome ${success ? "good" : kind === "cancelled" ? "warn" : "bad"}`, "aria-label": "Outcome" },
    h(
      "p",
      { role: "status" },
      h("strong", {}, title),
      message && (message.startsWith(`${word} `) ? message.slice(word.length) : `: ${message}`),
    ),
    facts.length > 0 &&
      h(
        "dl",
        { class: "facts" },
        facts.map(([name, it]) => fact(name, it)),
      ),
    value !== null &&
      value !== undefined && [
        h("h2", {}, "Value"),
        h("pre", { tabindex: "0", role: "group", "aria-label": "Value" }, JSON.stringify(value, null, 2)),
      ],
  );
}

// A process whose output is nowhere to be read.
function past({ main, signal, title }, seen) {
  title(seen.call);
  const wrong = h("div");
  const draw = () => {
    const runs = seen.outcome === "running";
    const [kind, text] = OUTCOMES[seen.outcome] ?? ["", seen.outcome];
    const cancel = h(
      "button",
      {
        type: "button",
        class: "danger",
        onclick: async () => {
          try {
            await remove(`processes/${encodeURIComponent(seen.id)}`);
            say("Told to end");
            fill(wrong);
          } catch (error) {
            fill(wrong, notice("bad", `Not cancelled: ${error.message}.`));
          }
          await again();
        },
      },
      "Cancel",
    );
    const took = (seen.ended ? Date.parse(seen.ended) : Date.now()) - Date.parse(seen.started);
    fill(
      main,
      head(seen.call, h("span", { role: "status" }, badge(kind, text))),
      h("p", { class: "command" }, h("code", {}, written(seen.call, seen.params))),
      h(
        "p",
        { class: "row" },
        runs ? cancel : h("button", { type: "button", onclick: () => runAgain(seen) }, "Run again"),
      ),
      wrong,
      !runs && verdict({ success: seen.outcome === "success", kind: seen.outcome, ...seen, status: null }),
      h(
        "p",
        { class: "hint" },
        runs ? "Another client talks to it: what it writes goes there." : "What it wrote is not kept.",
      ),
      h(
        "dl",
        { class: "facts large" },
        fact("User", seen.user || "nobody"),
        fact("Plugin", `${seen.plugin}, generation ${seen.generation}`),
        fact("Started", moment(seen.started)),
        seen.ended && fact("Ended", moment(seen.ended)),
        fact("Elapsed", duration(took)),
        fact("CPU", duration(seen.cpu_ms)),
        fact("Most memory", bytes(seen.memory)),
        fact("In", bytes(seen.bytes_in)),
        fact("Out", bytes(seen.bytes_out)),
        fact("Process", h("code", {}, seen.id)),
      ),
    );
    if (runs && !signal.aborted) setTimeout(again, LOOK_MS);
  };
  const again = async () => {
    if (signal.aborted) return;
    const now = await details(seen.id).catch(() => seen);
    if (signal.aborted || !now) return;
    const focused = main.contains(document.activeElement) && document.activeElement.tagName === "BUTTON";
    seen = now;
    draw();
    if (focused) (main.querySelector("button") ?? main).focus();
  };
  draw();
}
