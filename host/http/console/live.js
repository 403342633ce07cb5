// A process that this page is connected to: its terminal, its input, and what it uses.

import { caller } from "./api.js";
import { runAgain } from "./calls.js";
import { announce, badge, fact, focused, notice } from "./dom.js";
import { copyButton, fill, h } from "./element.js";
import { inputLine } from "./input.js";
import { labelOf, verdict } from "./outcome.js";
import * as running from "./running.js";
import { downloadOutput } from "./stored.js";
import { Terminal } from "./terminal.js";
import { bytes, duration, param } from "./text.js";

/** @import { Page } from "./console.js" */
/** @import { Label } from "./outcome.js" */
/** @import { Running, State } from "./running.js" */

const CLOCK_MS = 500;

/** @type {Record<State, Label>} */
const STATES = {
  waiting: { colour: "", label: "starting" },
  queued: { colour: "", label: "queued" },
  running: { colour: "live", label: "running" },
  cancelling: { colour: "warn", label: "cancelling" },
  lost: { colour: "warn", label: "connection lost, reconnecting" },
  detached: { colour: "", label: "detached" },
  refused: { colour: "bad", label: "refused" },
  ended: { colour: "", label: "ended" },
};

/**
 * @param {Page} page
 * @param {Running} process
 */
export function showLive({ main, signal, setTitle }, process) {
  setTitle(process.call ?? "Process");
  const terminal = new Terminal(process.screen);
  const state = h("span", { class: "state", role: "status" });
  const facts = h("dl", { class: "facts" });
  const outcome = h("div");
  const line = inputLine(process);
  const controls = controlButtons(process);
  const detachable = badge("", "detachable");

  let shown = "";
  const drawFacts = () => {
    const { colour, label } = process.outcome ? labelOf(kindOf(process)) : STATES[process.state];
    // Screen readers announce the badge whenever it is replaced.
    if (shown !== label) fill(state, badge(colour, label));
    shown = label;
    fill(facts, fact("Elapsed", duration(process.elapsed())), usage(process));
  };
  const update = () => {
    const focus = focused();
    const hadFocus = line.element.contains(focus) || focus === controls.cancel;
    line.element.hidden = !process.acceptsInput;
    controls.update();
    detachable.hidden = !(process.live && process.kept);
    drawFacts();
    fill(
      outcome,
      process.outcome && verdict({ ...process.outcome, kind: kindOf(process) }),
      process.state === "detached" && notice("", "Detached: the process keeps running without this page."),
    );
    // The element that had the focus is hidden now.
    if (hadFocus && line.element.hidden) (controls.cancel.hidden ? terminal : controls.cancel).focus();
  };
  process.addEventListener("state", update, { signal });
  const onScreen = () => {
    terminal.update();
    line.update();
  };
  process.addEventListener("screen", onScreen, { signal });
  const clock = setInterval(() => {
    if (process.live) drawFacts();
  }, CLOCK_MS);
  signal.addEventListener("abort", () => clearInterval(clock));

  const command = [process.call ?? "", ...(process.params ?? []).map(param)].join(" ");
  const title = h("h1", { tabindex: "-1" }, process.call ?? process.id);
  const parts = [
    h("div", { class: "head" }, title, state, detachable),
    h("p", { class: "command" }, h("code", {}, command)),
    h("div", { class: "strip" }, facts, controls.element),
    terminal.element,
    line.element,
    outcome,
    footer(process),
  ];
  fill(main, h("div", { class: "process" }, parts));
  update();
  terminal.update();
  if (process.live) line.focus();
}

/**
 * The buttons that act on the process. `update` shows those that apply to its state.
 * @param {Running} process
 */
function controlButtons(process) {
  const cancel = h("button", {
    type: "button",
    class: "danger",
    "aria-keyshortcuts": "Control+C",
    onclick: () => process.cancel(),
  });
  const detach = h("button", { type: "button", onclick: () => process.detach() }, "Detach");
  const again = h("button", { type: "button", onclick: () => runAgain(process) }, "Run again");
  const onReattach = () => {
    running.forget(process);
    dispatchEvent(new Event("reload-page"));
  };
  const reattach = h("button", { type: "button", onclick: onReattach }, "Reattach");
  const update = () => {
    cancel.hidden = !process.live;
    cancel.textContent = process.cancels > 0 || process.state === "cancelling" ? "Force stop" : "Cancel";
    detach.hidden = !(process.live && process.kept);
    again.hidden = !process.over || process.params === null;
    reattach.hidden = process.state !== "detached";
  };
  return { element: h("div", { class: "row" }, cancel, detach, reattach, again), cancel, update };
}

/** @param {Running} process */
function usage({ used }) {
  if (!used) return null;
  return [
    fact("CPU", duration(used.cpu_ms)),
    fact("Memory", bytes(used.memory)),
    fact("Input", bytes(used.bytes_in)),
    fact("Output", bytes(used.bytes_out)),
  ];
}

/**
 * Returns the kind of the outcome as `outcome.js` names it.
 * @param {Running} process
 */
function kindOf({ outcome }) {
  return !outcome || outcome.success ? "success" : outcome.kind;
}

/** @param {Running} process */
function footer(process) {
  const copy = copyButton("Copy all", () => process.screen.text(), announce);
  const save = h("button", { type: "button", onclick: () => download(process) }, "Download");
  const generation = process.generation !== null && `, generation ${process.generation}`;
  return h(
    "div",
    { class: "strip" },
    h("p", { class: "aside" }, "Process ", h("code", {}, process.id), generation),
    h("div", { class: "row small" }, copy, save),
  );
}

/** @param {Running} process */
function download(process) {
  // The server has the bytes as they were written. Anonymous callers cannot read them there.
  if (caller.user && process.id) return downloadOutput({ id: process.id, call: process.call ?? "process" });
  const file = new Blob([process.screen.text()], { type: "text/plain" });
  const link = h("a", { href: URL.createObjectURL(file), download: `${process.call}-${process.id}.txt` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
