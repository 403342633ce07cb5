// The fields for the parameters of a call, and their values. The server decides what is valid; what is certainly invalid is
// reported here before a request is made.

import { field } from "./dom.js";
import { h } from "./element.js";

/** @import { Param } from "./api.js" */
/** @import { Content } from "./element.js" */
/**
 * One parameter on the form. `read` returns the values that were given and, if they are invalid, why.
 * @typedef {{
 *   param: Param, element: HTMLElement, setError: (message?: string) => void, focus: () => void,
 *   read: () => { given: string[], error?: string },
 * }} Field
 * @typedef {{ values: string[], secrets: Set<number> }} Values `secrets` holds the positions of secret values
 * @typedef {{ element: HTMLElement, read: () => Values | null }} Form
 */

// Regular expressions that mean the same to the server and to a browser: characters, classes, groups and repetitions.
const PORTABLE =
  /^(?:[\w ,;:@/=%#!"'<>&~-]|\\[.+*?()|[\]{}^$/-]|\[\^?(?:[\w .,;:@/=%#!"'+*?()|{}$&~-]|\\[.\][\\^-])+\]|[.+*?()|]|\{\d+(?:,\d*)?\})+$/;
const SET_OPERATIONS = /&&|--|~~|\(\?/;

/**
 * Tells whether a value certainly does not match a pattern. False if a browser cannot tell.
 * @param {string | null | undefined} pattern
 * @param {string} value
 */
export function violates(pattern, value) {
  if (pattern === null || pattern === undefined || !PORTABLE.test(pattern) || SET_OPERATIONS.test(pattern))
    return false;
  try {
    return !new RegExp(`^(?:${pattern})$`, "u").test(value);
  } catch {
    return false;
  }
}

/**
 * Makes the form of a call. Its `read` returns null if a value is invalid, and shows the error beside its field.
 * @param {Param[] | null} params null if the call takes any parameters
 * @param {string[]} [values] the initial values
 * @returns {Form}
 */
export function callForm(params, values = []) {
  if (params === null) return anyParams(values);
  const fields = params.map((param, at) =>
    param.rest ? restField(param, values.slice(at)) : oneField(param, values[at]),
  );
  const none = params.length === 0 && h("p", { class: "hint" }, "This call takes no parameters.");
  const elements = fields.map((it) => it.element);
  return { element: h("div", { class: "fields" }, none, elements), read: () => readAll(fields) };
}

/**
 * @param {Field[]} fields
 * @returns {Values | null}
 */
function readAll(fields) {
  const read = fields.map((it) => it.read());
  /** @type {Values} */
  const all = { values: [], secrets: new Set() };
  /** @type {Field | null} */
  let invalid = null;
  // Parameters are positional: none can be left out before the last one that is given.
  const last = read.findLastIndex((it) => it.given.length > 0);
  fields.forEach((it, at) => {
    const { given, error } = read[at];
    const required = it.param.required
      ? "Required."
      : at < last
        ? `Required if ${fields[last].param.name} is given.`
        : "";
    const message = given.length > 0 ? error : required;
    if (message) {
      it.setError(message);
      invalid ??= it;
    }
    for (const value of given) {
      if (it.param.secret) all.secrets.add(all.values.length);
      all.values.push(value);
    }
  });
  const first = /** @type {Field | null} */ (invalid);
  first?.focus();
  return first ? null : all;
}

/** @param {Param} param */
function label(param) {
  return [param.name, !param.required && param.default === null && h("span", { class: "aside" }, " optional")];
}

/** @param {Param} param */
function hint({ description, pattern, choices }) {
  const rule = pattern !== null && choices === null && ["Pattern: ", h("code", {}, pattern)];
  if (!description || !rule) return description || rule || null;
  return [description, " · ", rule];
}

const TEXT = { autocomplete: "off", autocapitalize: "off", spellcheck: "false" };
/** The label of the choice that is the empty string. */
const EMPTY = "(empty)";

/**
 * A parameter that takes one value.
 * @param {Param} param
 * @param {string} [initial]
 */
function oneField(param, initial) {
  const { choices, required, secret } = param;
  const value = initial ?? param.default ?? "";
  const options = { hint: hint(param) };
  if (choices) {
    const none = param.default === null && h("option", { value: "" }, required ? "Choose one" : "None");
    const select = h(
      "select",
      { required },
      none,
      choices.map((it) => h("option", { value: it }, it === "" ? EMPTY : it)),
    );
    if (choices.includes(value)) select.value = value;
    return checked(param, field(label(param), select, options));
  }
  if (!secret) {
    const input = h("input", { type: "text", required, ...TEXT, value });
    return checked(param, field(label(param), input, options));
  }
  const input = h("input", { type: "password", required, ...TEXT, value: "", autocomplete: "new-password" });
  const toggle = () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    show.setAttribute("aria-pressed", String(shown));
  };
  const show = h("button", { type: "button", "aria-pressed": "false", onclick: toggle }, `Show ${param.name}`);
  return checked(param, field(label(param), input, { ...options, more: show }));
}

/**
 * @param {Param} param
 * @param {{ element: HTMLElement, input: HTMLInputElement | HTMLSelectElement, setError: Field["setError"] }} field
 * @returns {Field}
 */
function checked(param, { element, input, setError }) {
  const read = () => {
    const { value } = input;
    const chosen = input instanceof HTMLSelectElement ? input.selectedOptions[0]?.textContent : null;
    if (value === "" && chosen !== EMPTY) return { given: [] };
    const error = violates(param.pattern, value) ? `Does not match ${param.pattern}.` : undefined;
    return { given: [value], error };
  };
  return { param, element, setError, read, focus: () => input.focus() };
}

/**
 * A parameter that takes all remaining values.
 * @param {Param} param
 * @param {string[]} initial
 * @returns {Field}
 */
function restField(param, initial) {
  const values = initial.length || param.default === null ? initial : [param.default];
  const list = listField(param.name, hint(param), param, values);
  const read = () => {
    const given = list.read();
    const invalid = given.findIndex((value) => violates(param.pattern, value));
    return { given, error: invalid < 0 ? undefined : `Value ${invalid + 1} does not match ${param.pattern}.` };
  };
  return { ...list, param, read };
}

/**
 * The form of a call that takes any parameters.
 * @param {string[]} values
 * @returns {Form}
 */
function anyParams(values) {
  const hint = "This call takes any number of parameters.";
  const list = listField("Parameters", hint, { choices: null, secret: false }, values);
  return {
    element: h("div", { class: "fields" }, list.element),
    read: () => ({ values: list.read(), secrets: new Set() }),
  };
}

/**
 * A list of inputs that grows and shrinks.
 * @param {string} name
 * @param {Content} description
 * @param {Pick<Param, "choices" | "secret">} kind
 * @param {string[]} values
 */
function listField(name, description, { choices, secret }, values) {
  /** @type {{ input: HTMLInputElement | HTMLSelectElement, remove: HTMLButtonElement }[]} */
  const items = [];
  const list = h("div", { class: "several" });
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const setError = (message = "") => {
    error.textContent = message;
    error.hidden = !message;
  };
  const number = () =>
    items.forEach(({ input, remove }, at) => {
      input.setAttribute("aria-label", `${name}, value ${at + 1}`);
      remove.setAttribute("aria-label", `Remove value ${at + 1} of ${name}`);
    });
  /** @param {string} value */
  const add = (value) => {
    const input = choices
      ? h(
          "select",
          {},
          choices.map((it) => h("option", { value: it }, it)),
        )
      : h("input", { type: secret ? "password" : "text", ...TEXT, value });
    if (choices?.includes(value)) input.value = value;
    const remove = h("button", { type: "button", class: "quiet" }, "✕");
    const item = { input, remove };
    const element = h("div", { class: "beside" }, input, remove);
    remove.onclick = () => {
      const at = items.indexOf(item);
      items.splice(at, 1);
      element.remove();
      number();
      (items[Math.min(at, items.length - 1)]?.input ?? more).focus();
    };
    items.push(item);
    list.append(element);
    number();
    return input;
  };
  const more = h("button", { type: "button", onclick: () => add("").focus() }, "Add value");
  values.forEach(add);
  const element = h(
    "fieldset",
    {},
    h("legend", {}, name),
    description && h("p", { class: "hint" }, description),
    list,
    more,
    error,
  );
  element.addEventListener("input", () => setError());
  const read = () => items.map((it) => it.input.value);
  return { element, setError, read, focus: () => (items[0]?.input ?? more).focus() };
}
