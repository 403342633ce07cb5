// A process as the history has it: another client reads its output, or it has ended.

import { ApiError, caller, can, get, messageOf, remove } from "./api.js";
import { runAgain } from "./calls.js";
import { announce, fact, focused, notice } from "./dom.js";
import { fill, h } from "./element.js";
import { outcomeBadge, verdict } from "./outcome.js";
import { elapsed } from "./processes.js";
import { storedOutput } from "./stored.js";
import { bytes, dateTime, duration, param } from "./text.js";

/** @import { ProcessRecord } from "./api.js" */
/** @import { Page } from "./console.js" */

// How often a running process is loaded again.
const REFRESH_MS = 2000;

/**
 * Returns the record of a process; null if there is none that the caller can read.
 * @param {string} id
 * @returns {Promise<ProcessRecord | null>}
 */
export async function loadRecord(id) {
  if (!caller.user && !can("processes:*")) return null;
  return get(`processes/${encodeURIComponent(id)}`).catch((error) => {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  });
}

/**
 * @param {Page} page
 * @param {ProcessRecord} record
 */
export function showRecord({ main, signal, setTitle }, record) {
  setTitle(record.call);
  const error = h("div");
  let output = storedOutput(record, signal);
  const draw = () => {
    const button = record.outcome === "running" ? cancelButton() : runButton(record);
    fill(main, content(record, button, error), output);
    if (record.outcome === "running" && !signal.aborted) setTimeout(refresh, REFRESH_MS);
  };
  const refresh = async () => {
    if (signal.aborted) return;
    const next = await loadRecord(record.id).catch(() => record);
    if (signal.aborted || !next) return;
    const focus = focused();
    const hadFocus = focus?.tagName === "BUTTON" && main.contains(focus);
    if (record.outcome === "running" && next.outcome !== "running") output = storedOutput(next, signal);
    record = next;
    draw();
    if (hadFocus) (main.querySelector("button") ?? main).focus();
  };
  const cancelButton = () => {
    const cancel = async () => {
      try {
        await remove(`processes/${encodeURIComponent(record.id)}`);
        announce("Cancelling");
        fill(error);
      } catch (failure) {
        fill(error, notice("bad", `Could not cancel: ${messageOf(failure)}.`));
      }
      await refresh();
    };
    return h("button", { type: "button", class: "danger", onclick: cancel }, "Cancel");
  };
  draw();
}

/** @param {ProcessRecord} record */
function runButton(record) {
  return h("button", { type: "button", onclick: () => runAgain(record) }, "Run again");
}

/**
 * @param {ProcessRecord} record
 * @param {HTMLElement} button
 * @param {HTMLElement} error
 */
function content(record, button, error) {
  const isRunning = record.outcome === "running";
  const command = [record.call, ...record.params.map(param)].join(" ");
  return [
    h(
      "div",
      { class: "head" },
      h("h1", { tabindex: "-1" }, record.call),
      h("span", { role: "status" }, outcomeBadge(record.outcome)),
    ),
    h("p", { class: "command" }, h("code", {}, command)),
    h("p", { class: "row" }, button),
    error,
    !isRunning && verdict({ ...record, kind: record.outcome, status: null }),
    isRunning && h("p", { class: "hint" }, "Another client is connected and receives the output."),
    h(
      "dl",
      { class: "facts large" },
      fact("User", record.user || "anonymous"),
      fact("Plugin", `${record.plugin}, generation ${record.generation}`),
      fact("Started", dateTime(record.started)),
      record.ended && fact("Ended", dateTime(record.ended)),
      fact("Elapsed", duration(elapsed(record))),
      fact("CPU", duration(record.cpu_ms)),
      fact("Peak memory", bytes(record.memory)),
      fact("Input", bytes(record.bytes_in)),
      fact("Output", bytes(record.bytes_out)),
      fact("Process", h("code", {}, record.id)),
    ),
  ];
}
