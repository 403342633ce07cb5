// The processes that the caller can see, running and ended.

import { caller, can, get, messageOf } from "./api.js";
import { announce, cell, focused, tableHead } from "./dom.js";
import { fill, h } from "./element.js";
import { OUTCOMES, outcomeBadge } from "./outcome.js";
import * as running from "./running.js";
import { bytes, dateTime, duration, param } from "./text.js";

/** @import { ProcessRecord } from "./api.js" */
/** @import { Page } from "./console.js" */
/** @import { Running } from "./running.js" */

const PAGE_SIZE = 25;
const EXPORT_PAGE = 500;
// How often the newest page is loaded again while it is visible.
const REFRESH_MS = 3000;

/** @param {Page} page */
export async function show({ main, route, signal }) {
  const heading = h("h1", { tabindex: "-1" }, "Processes");
  const everyone = can("processes:*");
  if (!caller.user && !everyone) return showAnonymous(main, heading);
  const { query } = route;
  const table = h("div", { class: "wide" });
  const pages = h("nav", { class: "row", "aria-label": "Pages of processes" });
  const asked = new URLSearchParams([...query].filter(([, value]) => value));
  // Days of this time zone. The last one is included.
  for (const [name, days] of /** @type {[string, number][]} */ ([
    ["since", 0],
    ["until", 1],
  ])) {
    const start = asked.has(name) ? new Date(`${asked.get(name)}T00:00`) : null;
    start?.setDate(start.getDate() + days);
    if (start && !Number.isNaN(start.getTime())) asked.set(name, start.toISOString());
    else asked.delete(name);
  }
  // One more than is shown tells whether there is another page.
  asked.set("limit", String(PAGE_SIZE + 1));
  let previous = "";
  const load = async () => {
    /** @type {ProcessRecord[]} */
    const found = await get(`processes?${asked}`);
    if (signal.aborted) return;
    const text = JSON.stringify(found);
    // Unchanged rows stay as they are, so that nothing moves under the pointer.
    if (text === previous && !found.some((it) => it.outcome === "running")) return;
    previous = text;
    drawTable(table, found.slice(0, PAGE_SIZE), everyone, query.size > 0);
    const last = found.length > PAGE_SIZE ? found[PAGE_SIZE - 1].id : null;
    const newest = h("button", { type: "button", onclick: () => go(query, { before: null }) }, "Newest");
    const older = h("button", { type: "button", onclick: () => go(query, { before: last }) }, "Older");
    const save = h("button", { type: "button", onclick: () => exportAll(asked) }, "Export");
    fill(pages, query.has("before") && newest, last && older, found.length > 0 && save);
  };
  fill(main, heading, filters(query, everyone), table, pages);
  await load();
  if (query.has("before")) return;
  const timer = setInterval(() => {
    if (!document.hidden) load().catch(() => {});
  }, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

// A file with more processes is for programs.
const MAX_EXPORTED = 10_000;

/**
 * Downloads all processes that the filters show, from this page on.
 * @param {URLSearchParams} asked
 */
async function exportAll(asked) {
  /** @type {ProcessRecord[]} */
  const all = [];
  const next = new URLSearchParams(asked);
  next.set("limit", String(EXPORT_PAGE));
  try {
    for (;;) {
      /** @type {ProcessRecord[]} */
      const found = await get(`processes?${next}`);
      all.push(...found);
      if (found.length < EXPORT_PAGE || all.length >= MAX_EXPORTED) break;
      next.set("before", found[found.length - 1].id);
    }
  } catch (error) {
    return announce(`The processes cannot be exported: ${messageOf(error)}`);
  }
  const file = new Blob([JSON.stringify(all, null, 2)], { type: "application/json" });
  const link = h("a", { href: URL.createObjectURL(file), download: "processes.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  announce(`${all.length} processes exported`);
}

/**
 * @param {HTMLElement} main
 * @param {HTMLElement} heading
 */
function showAnonymous(main, heading) {
  const here = running.list().filter((it) => it.id);
  const login = h("a", { href: "#/login?to=%23/processes" }, "Log in");
  const text = here.length ? "Only processes of this page are shown. " : "Processes belong to users. ";
  const hint = h("p", { class: "empty" }, text, login, " to see yours.");
  fill(main, heading, here.length > 0 && list(here), hint);
}

/**
 * Shows the same page with other filters.
 * @param {URLSearchParams} query
 * @param {Record<string, FormDataEntryValue | null>} changes
 */
function go(query, changes) {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.set(name, String(value));
    else next.delete(name);
  }
  location.hash = `#/processes${next.size ? `?${next}` : ""}`;
}

/**
 * @param {URLSearchParams} query
 * @param {boolean} everyone whether the processes of all users are shown
 */
function filters(query, everyone) {
  /**
   * @param {string} name
   * @param {string} label
   */
  const text = (name, label) => {
    const value = query.get(name) ?? "";
    const options = { type: "search", name, value, autocomplete: "off", spellcheck: "false", "data-filter": true };
    return h("label", {}, h("span", {}, label), h("input", options));
  };
  /**
   * @param {string} name
   * @param {string} label
   */
  const day = (name, label) =>
    h("label", {}, h("span", {}, label), h("input", { type: "date", name, value: query.get(name) ?? "" }));
  const outcomes = Object.entries(OUTCOMES).map(([value, { label }]) => h("option", { value }, label));
  const outcome = h("select", { name: "outcome" }, h("option", { value: "" }, "any"), outcomes);
  outcome.value = query.get("outcome") ?? "";
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    go(query, { ...Object.fromEntries(new FormData(form)), before: null });
  };
  const form = h(
    "form",
    {
      class: "filters",
      role: "search",
      "aria-label": "Filter processes",
      onsubmit: submit,
      onchange: () => form.requestSubmit(),
    },
    text("call", "Call"),
    everyone && text("user", "User"),
    h("label", {}, h("span", {}, "Outcome"), outcome),
    text("text", "Text"),
    day("since", "From"),
    day("until", "Until"),
    h("button", {}, "Filter"),
  );
  return form;
}

/**
 * @param {HTMLElement} element
 * @param {ProcessRecord[]} processes
 * @param {boolean} everyone
 * @param {boolean} filtered
 */
function drawTable(element, processes, everyone, filtered) {
  const row = /** @type {HTMLElement | null | undefined} */ (focused()?.closest("[data-id]"));
  const focus = row?.dataset.id;
  const none = filtered ? "No process matches." : "No process has run yet.";
  fill(element, processes.length ? table(processes, everyone) : h("p", { class: "empty" }, none));
  const link = focus && element.querySelector(`[data-id="${CSS.escape(focus)}"] a`);
  if (link instanceof HTMLElement) link.focus();
}

/**
 * @param {ProcessRecord[]} processes
 * @param {boolean} everyone
 */
function table(processes, everyone) {
  const columns = ["Call", "Outcome", everyone && "User", "Started", "Duration", "CPU", "Memory"].filter(
    (it) => it !== false,
  );
  /** @param {ProcessRecord} it */
  const row = (it) =>
    h(
      "tr",
      { "data-id": it.id },
      cell(
        "Call",
        h("a", { href: `#/processes/${it.id}` }, h("strong", {}, it.call)),
        it.params.length > 0 && h("code", { class: "params" }, it.params.map(param).join(" ")),
      ),
      cell("Outcome", outcomeBadge(it.outcome), it.message && h("span", { class: "aside message" }, it.message)),
      everyone &&
        cell(
          "User",
          it.user || h("span", { class: "aside" }, "anonymous"),
          it.schedule && h("span", { class: "aside" }, ` (schedule ${it.schedule})`),
        ),
      cell("Started", h("time", { datetime: it.started }, dateTime(it.started))),
      numberCell("Duration", it.ended || it.outcome === "running" ? duration(elapsed(it)) : ""),
      numberCell("CPU", duration(it.cpu_ms)),
      numberCell("Memory", bytes(it.memory)),
    );
  return h("table", { class: "cards" }, tableHead(columns), h("tbody", {}, processes.map(row)));
}

/**
 * Returns how long a process has run, in milliseconds.
 * @param {ProcessRecord} process
 */
export function elapsed({ started, ended }) {
  return (ended ? Date.parse(ended) : Date.now()) - Date.parse(started);
}

/**
 * @param {string} column
 * @param {string} text
 */
function numberCell(column, text) {
  return h("td", { "data-label": column, class: "number" }, text);
}

/**
 * The processes of this page, for callers without a history.
 * @param {Running[]} processes
 */
function list(processes) {
  /** @param {Running} it */
  const item = ({ id, call, outcome, state }) => {
    const text = !outcome ? state : outcome.success ? "success" : (outcome.message ?? outcome.kind);
    return h("li", {}, h("a", { href: `#/processes/${id}` }, h("strong", {}, call ?? id), h("span", {}, text)));
  };
  return h("ul", { class: "list" }, processes.map(item));
}
