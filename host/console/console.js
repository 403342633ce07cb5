// The console: which page is shown, and what stands around it.

import { caller, logOut, whoAmI } from "./api.js";
import { ask, field, fill, h, notice, say } from "./dom.js";
import * as running from "./running.js";
import * as calls from "./calls.js";
import * as login from "./login.js";
import * as overview from "./overview.js";
import * as plugins from "./plugins.js";
import * as processes from "./processes.js";
import * as process from "./process.js";
import * as tokens from "./tokens.js";

const PAGES = [
  { path: "", title: "Overview", key: "o", page: overview },
  { path: "calls", title: "Calls", key: "c", page: calls },
  { path: "processes", title: "Processes", key: "p", page: processes, one: process },
  { path: "plugins", title: "Plugins", key: "l", page: plugins },
  { path: "tokens", title: "Tokens", key: "t", page: tokens },
];
const LOGIN = { path: "login", title: "Log in", page: login };

const main = document.getElementById("main");
let gone = new AbortController();
let shown = null;
let hash = null;

// `#/processes/1?x=y` is {path: "processes", name: "1", query: {x: "y"}}.
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [first = "", ...rest] = path.split("/");
  return { path: first, name: decodeURIComponent(rest.join("/")), query: new URLSearchParams(query) };
}

async function show() {
  gone.abort();
  gone = new AbortController();
  const { signal } = gone;
  const at = route();
  hash = location.hash;
  const known = [...PAGES, LOGIN].find((it) => it.path === at.path);
  const moved = shown !== null && shown !== `${at.path}/${at.name}`;
  shown = `${at.path}/${at.name}`;
  around(at.path);
  const title = (text) => {
    document.title = `${text} · distillery`;
  };
  title(known?.title ?? "Not found");
  if (moved) window.scrollTo(0, 0);
  try {
    if (!caller.known) {
      await whoAmI();
      around(at.path);
    }
    if (signal.aborted) return;
    if (!known) {
      fill(
        main,
        h("h1", { tabindex: "-1" }, "Not found"),
        notice("", "There is no such page here. ", h("a", { href: "#/" }, "Go to the overview.")),
      );
    } else {
      const page = at.name && known.one ? known.one : known.page;
      await page.show({ main, at, signal, title });
    }
  } catch (error) {
    if (signal.aborted) return;
    failed(error, known?.title ?? "Console");
  }
  // Who moves by keyboard or ear begins at the top of the new page.
  const { activeElement } = document;
  const elsewhere = activeElement === main || !main.contains(activeElement);
  if (moved && !signal.aborted && elsewhere) main.querySelector("h1")?.focus({ preventScroll: true });
}

function failed(error, title) {
  if (error.status === undefined) console.error(error);
  const again = h("button", { type: "button", onclick: show }, "Try again");
  const what = error.off
    ? [
        h("strong", {}, "The API of this server is off"),
        ", and without it there is nothing to show. Whoever runs the server turns it on: set ",
        h("code", {}, "http.api"),
        " to ",
        h("code", {}, "true"),
        " in ",
        h("code", {}, "distillery.yaml"),
        " and start it again.",
      ]
    : [h("strong", {}, "This page cannot be shown: "), error.message, "."];
  fill(
    main,
    h("h1", { tabindex: "-1" }, title),
    notice("bad", what),
    h("p", { class: "row" }, again, error.status === 401 && h("a", { class: "button", href: "#/login" }, "Log in")),
  );
}

// The parts that stay: where one is, what runs, and who one is.
function around(path) {
  fill(
    document.getElementById("pages"),
    h(
      "ul",
      {},
      PAGES.map(({ path: to, title, key }) =>
        h(
          "li",
          {},
          h(
            "a",
            { href: `#/${to}`, "aria-current": to === path ? "page" : undefined, "aria-keyshortcuts": `g ${key}` },
            title,
          ),
        ),
      ),
    ),
  );
  const name = caller.user
    ? [
        h("p", { class: "who" }, h("span", { class: "aside" }, "Logged in as "), h("strong", {}, caller.user)),
        h("button", { type: "button", onclick: leave }, "Log out"),
      ]
    : caller.known && [
        h("p", { class: "who aside" }, "Not logged in"),
        h("a", { class: "button", href: "#/login" }, "Log in"),
      ];
  fill(
    document.getElementById("account"),
    name || [],
    h("button", { type: "button", class: "quiet", onclick: settings, "aria-keyshortcuts": "?" }, "Settings"),
  );
  here();
}

async function leave() {
  const ends = running
    .list()
    .filter((it) => it.live && !it.kept)
    .map((it) => it.call);
  if (
    ends.length &&
    !(await ask("Log out?", `Processes that end with this page are cancelled: ${ends.join(", ")}.`, "Log out"))
  )
    return;
  try {
    await logOut();
    // Whoever comes next sees nothing of it.
    running.list().forEach(running.forget);
    fill(main);
    say("Logged out");
  } catch (error) {
    say(error.message);
  }
  await show();
}

// The processes of this page, so that one that goes on behind another page is not forgotten.
function here() {
  const place = document.getElementById("here");
  const live = running.list().filter((it) => it.live && it.id);
  place.hidden = live.length === 0;
  fill(
    place,
    h("h2", {}, "Running here"),
    h(
      "ul",
      {},
      live.map((it) =>
        h(
          "li",
          {},
          h(
            "a",
            {
              href: `#/processes/${it.id}`,
              "aria-current": location.hash === `#/processes/${it.id}` ? "page" : undefined,
            },
            h("span", { class: "dot", "aria-hidden": "true" }),
            it.call ?? it.id,
          ),
        ),
      ),
    ),
  );
}

const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };

function wear(name) {
  if (name in THEMES && name !== "auto") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}

// A browser may forbid to keep anything: then nothing is kept.
function keep(what, value) {
  try {
    localStorage.setItem(`distillery ${what}`, value);
  } catch {
    /* as said */
  }
}
function kept(what) {
  try {
    return localStorage.getItem(`distillery ${what}`);
  } catch {
    return null;
  }
}

const KEYS = [
  ...PAGES.map(({ title, key }) => [`g ${key}`, title]),
  ["/", "To the first field that filters"],
  ["?", "Settings and keys"],
  ["Enter", "In the input of a process: send the line"],
  ["↑ ↓", "In the input: lines that were sent before"],
  ["Ctrl+D", "In the input: end of input"],
  ["Ctrl+C", "In the input, with nothing selected: cancel, and again to force"],
];

function settings() {
  const colours = h(
    "select",
    {
      onchange: () => {
        keep("theme", colours.value);
        wear(colours.value);
      },
    },
    Object.entries(THEMES).map(([value, text]) => h("option", { value }, text)),
  );
  colours.value = document.documentElement.dataset.theme ?? "auto";
  const single = h("input", {
    type: "checkbox",
    checked: kept("keys") !== "off",
    onchange: () => keep("keys", single.checked ? "on" : "off"),
  });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "settings-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "settings-title" }, "Settings"),
      field("Colours", colours).element,
      h("label", { class: "check" }, single, " Keys without Ctrl are shortcuts"),
      h("h3", {}, "Keys"),
      h(
        "dl",
        { class: "keys" },
        KEYS.map(([key, what]) =>
          h(
            "div",
            {},
            h(
              "dt",
              {},
              key.split(" ").map((it) => h("kbd", {}, it)),
            ),
            h("dd", {}, what),
          ),
        ),
      ),
      h("div", { class: "row end" }, h("button", {}, "Close")),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

let went = 0;

addEventListener("keydown", (event) => {
  const { key, target } = event;
  const typing = target.closest?.("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || kept("keys") === "off") return;
  if (key === "?") settings();
  else if (key === "/") {
    const filter = main.querySelector("[data-filter]");
    if (!filter) return;
    filter.focus();
  } else if (key === "g") went = event.timeStamp;
  else {
    const page = PAGES.find((it) => it.key === key);
    if (!page || event.timeStamp - went > 1500) return;
    went = 0;
    location.hash = `#/${page.path}`;
  }
  event.preventDefault();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

wear(kept("theme"));
running.changes.addEventListener("change", here);
// One that is shown already is not shown anew: what is typed into it stays.
addEventListener("hashchange", () => {
  if (location.hash !== hash) show();
});
addEventListener("again", show);
show();
