// The line in which the input of a process is typed, with the keys of a terminal.

import { h } from "./element.js";

/** @import { Running } from "./running.js" */

// Lines of one process that the arrow keys bring back.
const MAX_HISTORY = 200;
// A prompt for something that nobody else should read.
const PRIVATE =
  /(?:pass(?:word|phrase|code|wort)|kennwort|\bpin\b|secret|\btoken\b|api[ _-]?key|one-time code|mot de passe|contraseña)[^:?>]*[:?>]\s*$/i;

/**
 * Tells whether a prompt looks like one for a password.
 * @param {string} prompt
 */
export const asksForSecret = (prompt) => PRIVATE.test(prompt);

/** @param {Running} process */
export function inputLine(process) {
  const input = h("input", {
    type: "text",
    "aria-label": "Input: one line",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    enterkeyhint: "send",
  });
  const shortcut = { type: "button", "aria-keyshortcuts": "Control+D", onclick: () => process.closeInput() };
  const close = h("button", shortcut, "Close stdin");
  // Browsers look for the name that a password belongs to.
  const nameless = h("input", { type: "text", autocomplete: "username", hidden: true });
  // Set by the user; otherwise the prompt decides.
  /** @type {boolean | null} */
  let chosen = null;
  const hide = h("button", { type: "button", "aria-pressed": "false" }, "Hide input");
  const update = () => {
    const hidden = chosen ?? asksForSecret(process.screen.prompt());
    const type = hidden ? "password" : "text";
    if (input.type === type) return;
    input.type = type;
    input.autocomplete = hidden ? "new-password" : "off";
    hide.setAttribute("aria-pressed", String(hidden));
  };
  hide.onclick = () => {
    chosen = input.type !== "password";
    update();
    input.focus({ preventScroll: true });
  };
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    update();
    const hidden = input.type === "password";
    if (!process.type(input.value, hidden)) return;
    if (!hidden) remember(process.typed, input.value);
    input.value = "";
    chosen = null;
    keys.reset();
    update();
  };
  const prompt = h("span", { class: "prompt", "aria-hidden": "true" }, "›");
  const element = h(
    "form",
    { class: "input", onsubmit: submit },
    prompt,
    input,
    nameless,
    h("button", {}, "Send"),
    hide,
    close,
  );
  const keys = bindKeys(input, process);
  input.addEventListener("paste", (event) => paste(event, input, process));
  return { element, update, focus: () => input.focus({ preventScroll: true }) };
}

/**
 * @param {string[]} history
 * @param {string} line
 */
function remember(history, line) {
  if (line !== "" && history.at(-1) !== line) history.push(line);
  if (history.length > MAX_HISTORY) history.shift();
}

/**
 * @param {HTMLInputElement} input
 * @param {Running} process
 */
function bindKeys(input, process) {
  const history = process.typed;
  // The position in the history. At its end there is the line that is being typed.
  let at = history.length;
  let draft = "";
  /** @param {number} to */
  const recall = (to) => {
    if (at === history.length) draft = input.value;
    at = Math.min(Math.max(to, 0), history.length);
    input.value = at === history.length ? draft : history[at];
    input.setSelectionRange(input.value.length, input.value.length);
  };
  input.addEventListener("keydown", (event) => {
    const { key, ctrlKey, altKey, metaKey } = event;
    if (altKey || metaKey) return;
    const arrow = key === "ArrowUp" || key === "ArrowDown";
    // A hidden line is not replaced by one that can be read, nor kept.
    if (arrow && input.type === "password") return;
    const nothingSelected = input.selectionStart === input.selectionEnd && !String(getSelection());
    if (key === "ArrowUp") recall(at - 1);
    else if (key === "ArrowDown") recall(at + 1);
    else if (ctrlKey && key === "d") process.closeInput();
    else if (ctrlKey && key === "c" && nothingSelected) process.cancel();
    else return;
    event.preventDefault();
  });
  const reset = () => {
    at = history.length;
    draft = "";
  };
  return { reset };
}

/**
 * Sends all lines of a pasted text but the last one, because the input holds a single line.
 * @param {ClipboardEvent} event
 * @param {HTMLInputElement} input
 * @param {Running} process
 */
function paste(event, input, process) {
  const lines = event.clipboardData?.getData("text").split(/\r\n|\r|\n/) ?? [];
  if (lines.length < 2) return;
  event.preventDefault();
  const before = input.value.slice(0, input.selectionStart ?? 0);
  const after = input.value.slice(input.selectionEnd ?? 0);
  lines[0] = before + lines[0];
  const last = lines.pop() + after;
  for (const line of lines) process.type(line, input.type === "password");
  input.value = last;
}
