// How processes end, in words.

import { badge, fact } from "./dom.js";
import { h } from "./element.js";
import { number } from "./text.js";

/** @typedef {{ colour: string, label: string }} Label */

/**
 * Labels of the outcomes that the API knows.
 * @type {Record<string, Label>}
 */
export const OUTCOMES = {
  running: { colour: "live", label: "running" },
  success: { colour: "good", label: "success" },
  exited: { colour: "bad", label: "exited with error" },
  trapped: { colour: "bad", label: "trapped" },
  cancelled: { colour: "warn", label: "cancelled" },
  failed: { colour: "bad", label: "server error" },
  interrupted: { colour: "bad", label: "interrupted" },
};

/** @type {Label} */
const LOST = { colour: "bad", label: "connection lost" };

/**
 * @param {string} kind
 * @returns {Label}
 */
export function labelOf(kind) {
  if (kind === "lost") return LOST;
  return OUTCOMES[kind] ?? { colour: "bad", label: kind };
}

/** @param {string} kind */
export function outcomeBadge(kind) {
  const { colour, label } = labelOf(kind);
  return badge(colour, label);
}

/** @type {Record<string, string | undefined>} */
const STOPS = {
  told: "ended by itself within its grace period",
  interrupted: "interrupted while it computed",
  dropped: "stopped while it waited",
};

/**
 * The full outcome of a process. `kind` is "success" for a success.
 * @param {{
 *   kind: string, message?: string | null, status?: number | null, stop?: string | null, cleanup?: string | null,
 *   value?: unknown,
 * }} outcome
 */
export function verdict({ kind, message, status, stop, cleanup, value }) {
  const { colour, label } = labelOf(kind);
  const title = label[0].toUpperCase() + label.slice(1);
  // "Cancelled by the client" rather than "Cancelled: cancelled by the client".
  const text = message && (message.startsWith(`${label} `) ? message.slice(label.length) : `: ${message}`);
  const facts = [
    status ? fact("Exit status", number(status)) : null,
    stop ? fact("Stop", STOPS[stop] ?? stop) : null,
    cleanup ? fact("Cleanup", cleanup) : null,
  ].filter((it) => it !== null);
  const json = value !== null && value !== undefined && JSON.stringify(value, null, 2);
  return h(
    "section",
    { class: `outcome ${colour}`, "aria-label": "Outcome" },
    h("p", { role: "status" }, h("strong", {}, title), text),
    facts.length > 0 && h("dl", { class: "facts" }, facts),
    json && [h("h2", {}, "Value"), h("pre", { tabindex: "0", role: "group", "aria-label": "Value" }, json)],
  );
}
