// Parts that several pages of the console consist of. Knows the document, not what is shown in it.

import { h } from "./element.js";

/** @import { Content } from "./element.js" */

let ids = 0;

/**
 * Returns an id that no other element has.
 * @param {string} prefix
 */
export function newId(prefix) {
  return `${prefix}-${++ids}`;
}

/**
 * Returns an element of `index.html`.
 * @param {string} id
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element with the id ${id}`);
  return element;
}

/**
 * Announces a text to screen readers.
 * @param {string} text
 */
export function announce(text) {
  byId("announcement").textContent = text;
}

/** The element that has the focus. It also has it if it is removed by the next change of the page. */
export function focused() {
  return /** @type {HTMLElement | null} */ (document.activeElement);
}

/**
 * A box with a message. `kind` is its class: "", "good" or "bad".
 * @param {string} kind
 * @param {...Content} content
 */
export function notice(kind, ...content) {
  return h("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : undefined }, ...content);
}

/**
 * A word in colour.
 * @param {string} kind
 * @param {string} text
 */
export function badge(kind, text) {
  return h("span", { class: `badge ${kind}` }, text);
}

/**
 * A name and its value, for a list of class `facts`.
 * @param {string} name
 * @param {Content} value
 */
export function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

/**
 * The head of a table.
 * @param {Content[]} columns
 */
export function tableHead(columns) {
  const cells = columns.map((column) => h("th", { scope: "col" }, column));
  return h("thead", {}, h("tr", {}, cells));
}

/**
 * A cell of a table. A narrow screen shows the name of the column beside the value.
 * @param {string} column
 * @param {...Content} content
 */
export function cell(column, ...content) {
  return h("td", { "data-label": column }, ...content);
}

/**
 * A control with its label, a hint, and its error.
 * @template {HTMLInputElement | HTMLSelectElement} Input
 * @param {Content} label
 * @param {Input} input
 * @param {{ hint?: Content, more?: Content }} [options] `more` stands beside the input
 */
export function field(label, input, { hint, more } = {}) {
  const id = newId("field");
  input.id = id;
  const error = h("p", { class: "error", id: `${id}-error`, hidden: true });
  const describe = () => {
    const ids = [hint && `${id}-hint`, !error.hidden && error.id].filter(Boolean);
    if (ids.length) input.setAttribute("aria-describedby", ids.join(" "));
    else input.removeAttribute("aria-describedby");
  };
  describe();
  const element = h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
    more ? h("div", { class: "beside" }, input, more) : input,
    error,
  );
  /** @param {string} [message] shows an error, or removes the one that is shown */
  const setError = (message = "") => {
    error.textContent = message;
    error.hidden = !message;
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    describe();
  };
  input.addEventListener("input", () => setError());
  return { element, input, setError };
}

/**
 * Asks before an action that a click cannot undo.
 * @param {string} title
 * @param {string} text
 * @param {string} action the label of the button that confirms
 * @returns {Promise<boolean>} whether the action was confirmed
 */
export function confirm(title, text, action) {
  const heading = newId("confirm");
  return new Promise((resolve) => {
    const buttons = [
      h("button", { value: "no", autofocus: true }, "Cancel"),
      h("button", { value: "yes", class: "danger" }, action),
    ];
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: heading }, title),
      h("p", {}, text),
      h("div", { class: "row end" }, buttons),
    );
    const dialog = h("dialog", { "aria-labelledby": heading }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
