// The plugins and their generations, as they change.

import { caller, get, may, post } from "./api.js";
import { ask, badge, fill, h, notice, say } from "./dom.js";
import { many, moment, time } from "./text.js";

// How many changes are told, and how long one is waited for after another.
const TOLD = 30;
const REST_MS = 150;

const CHANGES = {
  serving: ({ plugin, generation }) => `${plugin}: generation ${generation} serves`,
  retired: ({ plugin, generation, processes }) => `${plugin}: generation ${generation} retires with ${many(processes, "process", "processes")}`,
  freed: ({ plugin, generation }) => `${plugin}: generation ${generation} is gone`,
  failed: ({ plugin, generation, error }) => `${plugin}: generation ${generation} does not load: ${error}`,
  removed: ({ plugin }) => `${plugin}: removed`,
};

export async function show({ main, signal }) {
  const heading = h("h1", { tabindex: "-1" }, "Plugins");
  if (!may("plugins:read")) {
    return fill(main, heading, h("p", { class: "empty" }, "Plugins are shown to who has the scope ", h("code", {}, "plugins:read"), ". ",
      !caller.user && [h("a", { href: "#/login?to=%23/plugins" }, "Log in"), " as somebody who has."]));
  }
  const result = h("div", { role: "status" });
  const state = h("p", { class: "aside live-state" });
  const list = h("div", { class: "plugins" });
  const changes = h("ol", { class: "changes" });
  const reload = h("button", { type: "button", onclick: () => act(reload, result, async () => {
    const { changed, restart, error, plugins } = await post("plugins/reload");
    draw(plugins);
    return [error && notice("bad", `${error}.`),
      changed.length > 0 && h("p", {}, "Taken over: ", changed.join(", "), "."), restart.length > 0 && h("p", {}, "Need a restart: ", restart.join(", "), "."),
      !error && notice("good", "Reloaded.")];
  }) }, "Reload all");
  const draw = (plugins) => {
    const focused = document.activeElement?.dataset?.plugin;
    const opened = new Set([...list.querySelectorAll("details[open]")].map((it) => it.dataset.of));
    fill(list, plugins.length ? plugins.map((it) => plugin(it, result, opened.has(it.name))) : h("p", { class: "empty" }, "There are no plugins: put one into the directory of plugins."));
    if (focused) list.querySelector(`[data-plugin="${CSS.escape(focused)}"]`)?.focus();
  };
  fill(main, h("div", { class: "head" }, heading, may("plugins:write") && reload), state, result, list,
    h("section", { "aria-labelledby": "changes" }, h("h2", { id: "changes" }, "Changes"), h("p", { class: "hint" }, "Since this page was opened, the newest first."), changes));
  draw(await get("plugins"));
  if (signal.aborted) return;
  follow({ signal, draw, changes, state });
}

function follow({ signal, draw, changes, state }) {
  const events = new EventSource("/api/v1/plugins/events");
  const live = (is) => fill(state, is ? badge("live", "live") : badge("warn", "not live"), is ? " What changes is shown at once." : " The connection is gone, and tried again.");
  live(true);
  events.onopen = () => live(true);
  events.onerror = () => live(false);
  events.addEventListener("plugins", ({ data }) => draw(JSON.parse(data)));
  let waits = null;
  const look = () => { waits = null; get("plugins").then((plugins) => { if (!signal.aborted) draw(plugins); }, () => {}); };
  for (const [name, sentence] of Object.entries(CHANGES)) {
    events.addEventListener(name, ({ data }) => {
      const change = JSON.parse(data);
      changes.prepend(h("li", { class: name === "failed" ? "bad" : undefined }, h("time", { datetime: change.at }, time(new Date(change.at))), " ", sentence(change)));
      while (changes.children.length > TOLD) changes.lastChild.remove();
      if (name === "failed" || name === "serving") say(sentence(change));
      // Changes come in groups.
      clearTimeout(waits);
      waits = setTimeout(look, REST_MS);
    });
  }
  signal.addEventListener("abort", () => { clearTimeout(waits); events.close(); });
}

async function act(button, result, what) {
  button.disabled = true;
  fill(result);
  try {
    fill(result, await what());
  } catch (error) {
    fill(result, notice("bad", `${error.message}.`));
  } finally {
    button.disabled = false;
  }
}

const STATES = { serving: "good", loading: "", failed: "bad", removed: "" };

function plugin(it, result, opened) {
  const back = may("plugins:write") && it.previous !== null && h("button", { type: "button", "data-plugin": it.name, "aria-label": `Roll ${it.name} back to generation ${it.previous}`, onclick: async () => {
    if (!await ask(`Roll ${it.name} back?`, `Generation ${it.previous} serves again. Processes that run go on with theirs.`, "Roll back")) return;
    await act(back, result, async () => {
      const { generation } = await post(`plugins/${encodeURIComponent(it.name)}/rollback`);
      return notice("good", `${it.name} was rolled back: generation ${generation} serves.`);
    });
  } }, `Roll back to ${it.previous}`);
  const granted = grants(it.grants);
  return h("article", { class: "card plugin", "aria-label": it.name },
    h("div", { class: "head" }, h("h2", {}, it.name), badge(STATES[it.state], it.state), it.error !== null && it.state === "serving" && badge("bad", "newest does not load"), back),
    it.description && h("p", {}, it.description),
    it.error !== null && notice("bad still", h("strong", {}, "Does not load: "), it.error),
    h("dl", { class: "facts" },
      it.generation !== null && fact("Generation", it.generation), it.kind && fact("Kind", it.kind), it.loaded && fact("Loaded", moment(it.loaded)),
      it.generation !== null && fact("Processes", it.processes), it.digest && fact("Digest", h("code", { title: it.digest }, it.digest.slice(0, 12)))),
    it.calls.length > 0 && h("p", {}, h("span", { class: "aside" }, "Calls "), it.calls.map((call) => [h("a", { class: "scope", href: `#/calls/${encodeURIComponent(call)}` }, call), " "])),
    granted && h("p", { class: "grants" }, h("span", { class: "aside" }, "May touch "), granted.length ? granted.map((text) => h("code", { class: "scope" }, text)) : "nothing outside of its sandbox"),
    h("details", { open: opened, "data-of": it.name }, h("summary", {}, many(it.generations.length, "generation")),
      h("div", { class: "wide" }, h("table", { class: "cards" },
        h("thead", {}, h("tr", {}, ["Generation", "State", "Loaded", "Processes", "Digest"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, it.generations.map((one) => h("tr", {},
          h("td", { "data-label": "Generation" }, String(one.generation)), h("td", { "data-label": "State" }, one.state), h("td", { "data-label": "Loaded" }, moment(one.at)),
          h("td", { "data-label": "Processes" }, String(one.processes)), h("td", { "data-label": "Digest" }, one.digest ? h("code", { title: one.digest }, one.digest.slice(0, 12)) : "–"))))))));
}

// Names of what it may touch; nothing where no generation serves.
function grants(granted) {
  if (!granted) return null;
  const { mounts = [], http = [], env = [], secrets = [], systems, scratch } = granted;
  return [
    ...mounts.map((it) => (typeof it === "string" ? `directory ${it}` : `directory ${it.name} at ${it.at}${it.write ? ", also to write" : ""}`)),
    ...http.map((it) => `requests to ${it}`), ...env.map((it) => `variable ${it}`), ...secrets.map((it) => `secret ${it}`),
    systems && `systems: ${systems}`, scratch && `/tmp of ${scratch}`,
  ].filter(Boolean);
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}
