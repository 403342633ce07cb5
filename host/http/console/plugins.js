// The plugins and their generations, updated as they change.

import { caller, can, get, messageOf, post } from "./api.js";
import { announce, badge, cell, confirm, fact, focused, notice, tableHead } from "./dom.js";
import { fill, h } from "./element.js";
import { dateTime, plural, time } from "./text.js";

/** @import { Generation, Grants, Plugin } from "./api.js" */
/** @import { Page } from "./console.js" */
/** @import { Content } from "./element.js" */
/**
 * A change as the server sends it. Each kind of change has some of the fields.
 * @typedef {{ plugin: string, generation: number, processes: number, error: string, at: string }} Change
 */

// Changes that the page lists.
const MAX_CHANGES = 30;
// Changes come in groups: the plugins are loaded again once none has come for this long.
const DEBOUNCE_MS = 150;

/** @type {Record<string, (change: Change) => string>} */
const CHANGES = {
  serving: ({ plugin, generation }) => `${plugin}: generation ${generation} is serving`,
  retired: ({ plugin, generation, processes }) =>
    `${plugin}: generation ${generation} is retiring with ${plural(processes, "process", "processes")}`,
  freed: ({ plugin, generation }) => `${plugin}: generation ${generation} was freed`,
  failed: ({ plugin, generation, error }) => `${plugin}: generation ${generation} failed to load: ${error}`,
  removed: ({ plugin }) => `${plugin}: removed`,
};

/** @param {Page} page */
export async function show({ main, signal }) {
  const heading = h("h1", { tabindex: "-1" }, "Plugins");
  if (!can("plugins:read")) return showForbidden(main, heading);
  const result = h("div", { role: "status" });
  const state = h("p", { class: "aside live-state" });
  const list = h("div", { class: "plugins" });
  const changes = h("ol", { class: "changes" });
  /** @param {Plugin[]} plugins */
  const draw = (plugins) => {
    const focus = focused()?.dataset.plugin;
    const details = /** @type {NodeListOf<HTMLElement>} */ (list.querySelectorAll("details[open]"));
    const open = new Set([...details].map((it) => it.dataset.of));
    const none = h("p", { class: "empty" }, "There are no plugins. Put one into the plugin directory.");
    fill(list, plugins.length ? plugins.map((it) => card(it, result, open.has(it.name))) : none);
    const button = focus && list.querySelector(`[data-plugin="${CSS.escape(focus)}"]`);
    if (button instanceof HTMLElement) button.focus();
  };
  const reload = h("button", { type: "button", onclick: () => reloadAll(reload, result, draw) }, "Reload all");
  fill(
    main,
    h("div", { class: "head" }, heading, can("plugins:write") && reload),
    state,
    result,
    list,
    h(
      "section",
      { "aria-labelledby": "changes" },
      h("h2", { id: "changes" }, "Changes"),
      h("p", { class: "hint" }, "Since this page was opened, newest first."),
      changes,
    ),
  );
  draw(await get("plugins"));
  if (!signal.aborted) follow({ signal, draw, changes, state });
}

/**
 * @param {HTMLElement} main
 * @param {HTMLElement} heading
 */
function showForbidden(main, heading) {
  const login = h("a", { href: "#/login?to=%23/plugins" }, "Log in");
  const hint = !caller.user && [" ", login, " as a user who has it."];
  fill(
    main,
    heading,
    h("p", { class: "empty" }, "This page needs the scope ", h("code", {}, "plugins:read"), ".", hint),
  );
}

/**
 * Shows changes as the server reports them.
 * @param {{
 *   signal: AbortSignal, draw: (plugins: Plugin[]) => void, changes: HTMLElement, state: HTMLElement,
 * }} page
 */
function follow({ signal, draw, changes, state }) {
  const events = new EventSource("/api/v1/plugins/events");
  /** @param {boolean} live */
  const setLive = (live) => {
    if (live) fill(state, badge("live", "live"), " Changes appear immediately.");
    else fill(state, badge("warn", "disconnected"), " Reconnecting…");
  };
  setLive(true);
  events.onopen = () => setLive(true);
  events.onerror = () => setLive(false);
  events.addEventListener("plugins", ({ data }) => draw(JSON.parse(data)));
  let timer = 0;
  const load = async () => {
    // The next change, or the next connection, draws them again.
    const plugins = await get("plugins").catch(() => null);
    if (plugins && !signal.aborted) draw(plugins);
  };
  for (const [name, sentence] of Object.entries(CHANGES)) {
    events.addEventListener(name, ({ data }) => {
      /** @type {Change} */
      const change = JSON.parse(data);
      const at = h("time", { datetime: change.at }, time(new Date(change.at)));
      changes.prepend(h("li", { class: name === "failed" && "bad" }, at, " ", sentence(change)));
      while (changes.children.length > MAX_CHANGES) changes.lastChild?.remove();
      if (name === "failed" || name === "serving") announce(sentence(change));
      clearTimeout(timer);
      timer = setTimeout(load, DEBOUNCE_MS);
    });
  }
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    events.close();
  });
}

/**
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} result
 * @param {(plugins: Plugin[]) => void} draw
 */
function reloadAll(button, result, draw) {
  return act(button, result, async () => {
    /** @type {{ changed: string[], restart: string[], error: string | null, plugins: Plugin[] }} */
    const { changed, restart, error, plugins } = await post("plugins/reload");
    draw(plugins);
    return [
      error && notice("bad", `${error}.`),
      changed.length > 0 && h("p", {}, "Applied: ", changed.join(", "), "."),
      restart.length > 0 && h("p", {}, "Need a restart: ", restart.join(", "), "."),
      !error && notice("good", "Reloaded."),
    ];
  });
}

/**
 * Runs an action of a button and shows its result, or its error.
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} result
 * @param {() => Promise<Content>} action
 */
async function act(button, result, action) {
  button.disabled = true;
  fill(result);
  try {
    fill(result, await action());
  } catch (error) {
    fill(result, notice("bad", `${messageOf(error)}.`));
  } finally {
    button.disabled = false;
  }
}

const STATES = { serving: "good", loading: "", failed: "bad", removed: "" };

/**
 * @param {Plugin} plugin
 * @param {HTMLElement} result
 * @param {boolean} open whether its generations are shown
 */
function card(plugin, result, open) {
  const { name, state, error, generation } = plugin;
  return h(
    "article",
    { class: "card plugin", "aria-label": name },
    h(
      "div",
      { class: "head" },
      h("h2", {}, name),
      badge(STATES[state], state),
      error !== null && state === "serving" && badge("bad", "newest generation failed to load"),
      can("plugins:write") && plugin.previous !== null && rollback(plugin, plugin.previous, result),
    ),
    plugin.description && h("p", {}, plugin.description),
    error !== null && notice("bad still", h("strong", {}, "Failed to load: "), error),
    h(
      "dl",
      { class: "facts" },
      generation !== null && fact("Generation", generation),
      plugin.kind && fact("Kind", plugin.kind),
      plugin.loaded && fact("Loaded", dateTime(plugin.loaded)),
      generation !== null && fact("Processes", plugin.processes),
      plugin.digest && fact("Digest", digest(plugin.digest)),
    ),
    plugin.calls.length > 0 && h("p", {}, h("span", { class: "aside" }, "Calls "), plugin.calls.map(callLink)),
    plugin.grants && grantList(plugin.grants),
    generations(plugin, open),
  );
}

/** @param {string} text */
function digest(text) {
  return h("code", { title: text }, text.slice(0, 12));
}

/** @param {string} call */
function callLink(call) {
  return [h("a", { class: "scope", href: `#/calls/${encodeURIComponent(call)}` }, call), " "];
}

/**
 * @param {Plugin} plugin
 * @param {number} previous
 * @param {HTMLElement} result
 */
function rollback({ name }, previous, result) {
  const rollBack = async () => {
    const text = `Generation ${previous} serves again. Running processes keep the generation that they started with.`;
    if (!(await confirm(`Roll ${name} back?`, text, "Roll back"))) return;
    await act(button, result, async () => {
      const { generation } = await post(`plugins/${encodeURIComponent(name)}/rollback`);
      return notice("good", `${name} was rolled back: generation ${generation} is serving.`);
    });
  };
  const label = `Roll ${name} back to generation ${previous}`;
  const attributes = { type: "button", "data-plugin": name, "aria-label": label, onclick: rollBack };
  const button = h("button", attributes, `Roll back to ${previous}`);
  return button;
}

/** @param {Grants} grants */
function grantList({ mounts = [], http = [], env = [], secrets = [], systems, scratch, commands = [] }) {
  /** @param {Exclude<Grants["mounts"], undefined>[number]} mount */
  const directory = (mount) => {
    if (typeof mount === "string") return `directory ${mount}`;
    return `directory ${mount.name} at ${mount.at} (${mount.write ? "read-write" : "read-only"})`;
  };
  const names = [
    ...mounts.map(directory),
    ...http.map((it) => `requests to ${it}`),
    ...env.map((it) => `variable ${it}`),
    ...secrets.map((it) => `secret ${it}`),
    systems && `systems: ${systems}`,
    scratch && `/tmp of ${scratch}`,
    ...commands.map((name) => `the command ${name}`),
  ].filter((it) => typeof it === "string" && it !== "");
  const all = names.length ? names.map((name) => h("code", { class: "scope" }, name)) : "nothing outside its sandbox";
  return h("p", { class: "grants" }, h("span", { class: "aside" }, "Granted "), all);
}

/**
 * @param {Plugin} plugin
 * @param {boolean} open
 */
function generations({ name, generations }, open) {
  /** @param {Generation} it */
  const row = (it) =>
    h(
      "tr",
      {},
      cell("Generation", it.generation),
      cell("State", it.state),
      cell("Loaded", dateTime(it.at)),
      cell("Processes", it.processes),
      cell("Digest", it.digest ? digest(it.digest) : "–"),
    );
  const head = tableHead(["Generation", "State", "Loaded", "Processes", "Digest"]);
  const table = h("table", { class: "cards" }, head, h("tbody", {}, generations.map(row)));
  return h(
    "details",
    { open, "data-of": name },
    h("summary", {}, plural(generations.length, "generation")),
    h("div", { class: "wide" }, table),
  );
}
