// The console: shows the page that the address names, and what surrounds it.

import { ApiError, caller, loadCaller, logOut, messageOf, sessionEnd } from "./api.js";
import * as calls from "./calls.js";
import { announce, byId, confirm, notice } from "./dom.js";
import { fill, h } from "./element.js";
import * as login from "./login.js";
import * as overview from "./overview.js";
import * as plugins from "./plugins.js";
import * as process from "./process.js";
import * as processes from "./processes.js";
import * as running from "./running.js";
import { applyStoredTheme, openSettings, shortcutsEnabled } from "./settings.js";
import * as tokens from "./tokens.js";

/**
 * An address such as `#/processes/1?x=y`, which is `{ path: "processes", name: "1", query }`.
 * @typedef {{ path: string, name: string, query: URLSearchParams }} Route
 *
 * What a page is given. The signal is aborted when another page is shown.
 * @typedef {{ main: HTMLElement, route: Route, signal: AbortSignal, setTitle: (title: string) => void }} Page
 *
 * @typedef {{ show: (page: Page) => unknown }} Module
 * @typedef {{ path: string, title: string, page: Module, detail?: Module }} Entry
 */

/** @type {(Entry & { key: string })[]} */
const PAGES = [
  { path: "", title: "Overview", key: "o", page: overview },
  { path: "calls", title: "Calls", key: "c", page: calls },
  { path: "processes", title: "Processes", key: "p", page: processes, detail: process },
  { path: "plugins", title: "Plugins", key: "l", page: plugins },
  { path: "tokens", title: "Tokens", key: "t", page: tokens },
];
/** @type {Entry} */
const LOGIN = { path: "login", title: "Log in", page: login };

/** @type {import("./settings.js").Shortcut[]} */
const SHORTCUTS = [
  ...PAGES.map(({ title, key }) => /** @type {[string, string]} */ ([`g ${key}`, title])),
  ["/", "Focus the filter"],
  ["?", "Settings"],
  ["Enter", "Process input: send the line"],
  ["↑ ↓", "Process input: earlier lines"],
  ["Ctrl+D", "Process input: close stdin"],
  ["Ctrl+C", "Process input, nothing selected: cancel; again to force"],
];
// The second key of a shortcut has to follow within this time.
const SHORTCUT_MS = 1500;

const main = byId("main");
let controller = new AbortController();
/** @type {string | null} the page that is shown */
let shown = null;
let shownHash = "";

/** @returns {Route} */
function parseRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [first = "", ...rest] = path.split("/");
  return { path: first, name: decodeURIComponent(rest.join("/")), query: new URLSearchParams(query) };
}

async function show() {
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  const route = parseRoute();
  const page = `${route.path}/${route.name}`;
  const moved = shown !== null && shown !== page;
  shown = page;
  shownHash = location.hash;
  const entry = [...PAGES, LOGIN].find((it) => it.path === route.path);
  drawFrame(route.path);
  setTitle(entry?.title ?? "Not found");
  if (moved) window.scrollTo(0, 0);
  try {
    if (!caller.known) {
      await loadCaller();
      drawFrame(route.path);
    }
    if (signal.aborted) return;
    if (!entry) showUnknown();
    else await ((route.name && entry.detail) || entry.page).show({ main, route, signal, setTitle });
  } catch (error) {
    if (signal.aborted) return;
    showError(error, entry?.title ?? "Console");
  }
  // Keyboards and screen readers start at the top of the new page.
  const { activeElement } = document;
  const elsewhere = activeElement === main || !main.contains(activeElement);
  const heading = main.querySelector("h1");
  if (moved && !signal.aborted && elsewhere) heading?.focus({ preventScroll: true });
}

/** @param {string} text */
function setTitle(text) {
  document.title = `${text} · distillery`;
}

function showUnknown() {
  const link = h("a", { href: "#/" }, "Go to the overview.");
  fill(main, h("h1", { tabindex: "-1" }, "Not found"), notice("", "There is no such page. ", link));
}

/**
 * @param {unknown} error
 * @param {string} title
 */
function showError(error, title) {
  const answer = error instanceof ApiError ? error : null;
  if (!answer) console.error(error);
  const text = answer?.disabled
    ? [
        h("strong", {}, "The API of this server is disabled."),
        " The console needs it. The operator enables it: set ",
        h("code", {}, "http.api"),
        " to ",
        h("code", {}, "true"),
        " in ",
        h("code", {}, "distillery.yaml"),
        " and restart the server.",
      ]
    : [h("strong", {}, "Cannot show this page: "), messageOf(error), "."];
  const retry = h("button", { type: "button", onclick: show }, "Try again");
  const link = answer?.status === 401 && h("a", { class: "button", href: login.loginHere() }, "Log in");
  fill(main, h("h1", { tabindex: "-1" }, title), notice("bad", text), h("p", { class: "row" }, retry, link));
}

/**
 * Draws what surrounds every page.
 * @param {string} path
 */
function drawFrame(path) {
  const links = PAGES.map(({ path: to, title, key }) => {
    const current = to === path && "page";
    return h("a", { href: `#/${to}`, "aria-current": current, "aria-keyshortcuts": `g ${key}` }, title);
  });
  const items = links.map((link) => h("li", {}, link));
  fill(byId("pages"), h("ul", {}, items));
  const settings = { type: "button", class: "quiet", onclick: () => openSettings(SHORTCUTS), "aria-keyshortcuts": "?" };
  fill(byId("account"), account(), h("button", settings, "Settings"));
  drawRunning();
}

function account() {
  if (!caller.known) return null;
  if (!caller.user) {
    const link = h("a", { class: "button", href: login.loginHere() }, "Log in");
    return [h("p", { class: "who aside" }, "Not logged in"), link];
  }
  const name = h("p", { class: "who" }, h("span", { class: "aside" }, "Logged in as "), h("strong", {}, caller.user));
  return [name, h("button", { type: "button", onclick: leave }, "Log out")];
}

async function leave() {
  const ending = running.list().filter((it) => it.live && !it.kept);
  const names = ending.map((it) => it.call).join(", ");
  if (ending.length && !(await confirm("Log out?", `This cancels the processes of this page: ${names}.`, "Log out")))
    return;
  try {
    await logOut();
    // The next user of this browser must not see them.
    running.list().forEach(running.forget);
    fill(main);
    announce("Logged out");
  } catch (error) {
    announce(messageOf(error));
  }
  await show();
}

// Lists the processes of this page, which keep running while other pages are shown.
function drawRunning() {
  const section = byId("here");
  const live = running.list().filter((it) => it.live && it.id);
  section.hidden = live.length === 0;
  const items = live.map(({ id, call }) => {
    const href = `#/processes/${id}`;
    const dot = h("span", { class: "dot", "aria-hidden": "true" });
    return h("li", {}, h("a", { href, "aria-current": location.hash === href && "page" }, dot, call ?? id));
  });
  fill(section, h("h2", {}, "Running here"), h("ul", {}, items));
}

let prefixAt = -Infinity;

/** @param {KeyboardEvent} event */
function onKey(event) {
  const { key, target } = event;
  const typing = target instanceof Element && target.closest("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !shortcutsEnabled()) return;
  if (key === "?") openSettings(SHORTCUTS);
  else if (key === "/") {
    const filter = main.querySelector("[data-filter]");
    if (!(filter instanceof HTMLElement)) return;
    filter.focus();
  } else if (key === "g") prefixAt = event.timeStamp;
  else {
    const page = PAGES.find((it) => it.key === key);
    if (!page || event.timeStamp - prefixAt > SHORTCUT_MS) return;
    prefixAt = -Infinity;
    location.hash = `#/${page.path}`;
  }
  event.preventDefault();
}

applyStoredTheme();
addEventListener("keydown", onKey);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
running.changes.addEventListener("change", drawRunning);
// A page that is already shown stays as it is, with what is typed into it.
addEventListener("hashchange", () => {
  if (location.hash !== shownHash) show();
});
addEventListener("reload-page", show);
// On any page, and at any request.
sessionEnd.addEventListener("ended", () => {
  running.list().forEach(running.forget);
  const to = login.loginHere();
  location.hash = `${to}${to.includes("?") ? "&" : "?"}ended=`;
});
show();
