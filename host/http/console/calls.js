// The calls that the caller can run, and the form of each.

import { caller, get } from "./api.js";
import { announce, badge, notice } from "./dom.js";
import { fill, h } from "./element.js";
import { callForm } from "./form.js";
import { loginHere } from "./login.js";
import * as running from "./running.js";

/** @import { Call } from "./api.js" */
/** @import { Page } from "./console.js" */

/**
 * The parameters of a process to run again. Lost with the page, because they can be confidential.
 * @type {{ call: string, params: (string | null)[] } | null}
 */
let again = null;

/** @param {{ call: string | null, params: (string | null)[] | null }} process */
export function runAgain({ call, params }) {
  if (call === null || params === null) return;
  again = { call, params };
  location.hash = `#/calls/${encodeURIComponent(call)}`;
}

/** @param {Page} page */
export async function show({ main, route, signal, setTitle }) {
  /** @type {Call[]} */
  const calls = await get("calls");
  if (signal.aborted) return;
  if (!calls.length) return showNone(main);
  const call = calls.find((it) => it.name === route.name);
  if (call) setTitle(call.name);
  const body = call
    ? detail(call, prefilled(call, route.query), signal)
    : route.name
      ? unknown(route.name)
      : overview();
  fill(
    main,
    h(
      "div",
      { class: `split ${route.name ? "chosen" : ""}` },
      sidebar(calls, route.name),
      h("section", { class: "body" }, body),
    ),
  );
}

/**
 * Returns the values of a link such as `#/calls/provision?slug=coins`, by position. A link never sets a secret: it is
 * kept by browsers and shown by others.
 * @param {Call} call
 * @param {URLSearchParams} query
 */
function prefilled({ params }, query) {
  /** @type {string[]} */
  const values = [];
  for (const { name, secret, rest, default: preset } of params ?? []) {
    const given = secret ? [] : query.getAll(name);
    if (rest) values.push(...given);
    else values.push(given[0] ?? preset ?? "");
  }
  return values;
}

/** @param {HTMLElement} main */
function showNone(main) {
  const login = !caller.user && [h("a", { href: loginHere() }, "Log in"), " to see the calls that need a scope."];
  const text = h("p", { class: "empty" }, "There is no call that you can run. ", login);
  fill(main, h("h1", { tabindex: "-1" }, "Calls"), text);
}

/** @param {string} name */
function unknown(name) {
  return [
    h("h1", { tabindex: "-1" }, name),
    notice("bad", `There is no call ${JSON.stringify(name)} that you can run.`),
    !caller.user && h("p", { class: "row" }, h("a", { class: "button", href: loginHere() }, "Log in")),
  ];
}

function overview() {
  return [
    h("h1", { tabindex: "-1" }, "Calls"),
    h("p", { class: "hint" }, "Choose a call to see its parameters and to run it."),
  ];
}

/**
 * The list of calls, with a filter.
 * @param {Call[]} calls
 * @param {string} current
 */
function sidebar(calls, current) {
  const list = h("ul", { class: "list" });
  const filter = h("input", {
    type: "search",
    "aria-label": "Filter calls",
    placeholder: "Filter",
    "data-filter": "",
    autocomplete: "off",
    spellcheck: "false",
  });
  /** @param {Call} call */
  const item = ({ name, description }) =>
    h(
      "a",
      { href: `#/calls/${encodeURIComponent(name)}`, "aria-current": name === current && "page" },
      h("strong", {}, name),
      h("span", {}, description),
    );
  const draw = () => {
    const wanted = filter.value.trim().toLowerCase();
    const found = calls.filter((it) => `${it.name} ${it.description} ${it.plugin}`.toLowerCase().includes(wanted));
    if (found.length)
      fill(
        list,
        found.map((call) => h("li", {}, item(call))),
      );
    else fill(list, h("li", { class: "empty" }, "No call matches."));
  };
  filter.addEventListener("input", draw);
  draw();
  return h("section", { class: "side", "aria-label": "All calls" }, filter, list);
}

/**
 * A call with the form that runs it.
 * @param {Call} call
 * @param {string[]} values the initial values
 * @param {AbortSignal} signal
 */
function detail(call, values, signal) {
  const access = call.access === "public" ? "public" : `needs call:${call.name}`;
  return [
    h("p", { class: "back" }, h("a", { href: "#/calls" }, "All calls")),
    h("h1", { tabindex: "-1" }, call.name),
    call.description && h("p", { class: "lead" }, call.description),
    h("p", { class: "aside" }, "Plugin ", h("strong", {}, call.plugin), " ", badge("", access)),
    runForm(call, values, signal),
  ];
}

/**
 * @param {Call} call
 * @param {string[]} values the initial values
 * @param {AbortSignal} signal
 */
function runForm(call, values, signal) {
  const params = again?.call === call.name ? again.params.map((it) => it ?? "") : values;
  again = null;
  const fields = callForm(call.params, params);
  const detach = h("input", { type: "checkbox", checked: call.on_disconnect === "detach" || caller.user !== "" });
  const run = h("button", { class: "primary" }, "Run");
  const cancel = h("button", { type: "button", hidden: true }, "Cancel");
  const state = h("div", { class: "state" });

  const settle = () => {
    run.disabled = false;
    cancel.hidden = true;
    fill(state);
  };
  /** @param {string} text */
  const waiting = (text) => fill(state, h("p", { class: "hint", role: "status" }, text));
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const read = fields.read();
    if (!read) return;
    const process = running.start(call.name, read.values, read.secrets, detach.checked ? "detach" : "cancel");
    run.disabled = true;
    cancel.hidden = false;
    cancel.onclick = () => {
      running.forget(process);
      settle();
    };
    waiting("Starting…");
    process.addEventListener("state", () => {
      if (process.state === "queued") {
        waiting(`All slots are in use. Position in the queue: ${process.position}.`);
      } else if (process.state === "refused") {
        settle();
        const reason = process.reason ?? "the server gave no reason";
        fill(state, notice("bad", h("strong", {}, "Could not run: "), `${reason}.`));
        running.forget(process);
      } else if (process.id) {
        settle();
        announce(`${call.name} is running`);
        if (!signal.aborted) location.hash = `#/processes/${process.id}`;
      }
    });
  };
  return h(
    "form",
    { novalidate: true, onsubmit: submit },
    fields.element,
    h("p", { class: "field" }, h("label", { class: "check" }, detach, " Keep running after this page is closed")),
    h("p", { class: "row" }, run, cancel),
    state,
  );
}
