// The settings of the console, which the browser stores: the theme, and whether single keys are shortcuts.

import { field } from "./dom.js";
import { h } from "./element.js";

/** @typedef {[keys: string, action: string]} Shortcut */

/** @type {Record<string, string>} */
const THEMES = { auto: "System", light: "Light", dark: "Dark" };

// Both do nothing if the browser forbids to store anything.
/**
 * @param {string} name
 * @param {string} value
 */
function store(name, value) {
  try {
    localStorage.setItem(`distillery ${name}`, value);
  } catch {}
}

/** @param {string} name */
function stored(name) {
  try {
    return localStorage.getItem(`distillery ${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name */
function applyTheme(name) {
  if (name in THEMES && name !== "auto") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}

export function applyStoredTheme() {
  applyTheme(stored("theme") ?? "auto");
}

export function shortcutsEnabled() {
  return stored("keys") !== "off";
}

/**
 * Opens the dialog.
 * @param {Shortcut[]} shortcuts
 */
export function openSettings(shortcuts) {
  const onTheme = () => {
    store("theme", theme.value);
    applyTheme(theme.value);
  };
  const options = Object.entries(THEMES).map(([value, label]) => h("option", { value }, label));
  const theme = h("select", { onchange: onTheme }, options);
  theme.value = document.documentElement.dataset.theme ?? "auto";
  const keys = h("input", {
    type: "checkbox",
    checked: shortcutsEnabled(),
    onchange: () => store("keys", keys.checked ? "on" : "off"),
  });
  const rows = shortcuts.map(([keys, action]) => {
    const names = keys.split(" ").map((key) => h("kbd", {}, key));
    return h("div", {}, h("dt", {}, names), h("dd", {}, action));
  });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "settings-title" }, "Settings"),
    field("Theme", theme).element,
    h("label", { class: "check" }, keys, " Single-key shortcuts"),
    h("h3", {}, "Keys"),
    h("dl", { class: "keys" }, rows),
    h("div", { class: "row end" }, h("button", {}, "Close")),
  );
  const dialog = h("dialog", { "aria-labelledby": "settings-title" }, form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
