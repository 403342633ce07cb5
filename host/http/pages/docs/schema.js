// Shows JSON schemas and the little of Markdown that descriptions use.

import { h } from "../../console/element.js";

/** @import { Content } from "../../console/element.js" */
/**
 * As much of a JSON schema as the documents use.
 * @typedef {{
 *   $ref?: string, type?: string | string[], const?: unknown, enum?: unknown[], anyOf?: Schema[], oneOf?: Schema[],
 *   items?: Schema, properties?: Record<string, Schema>, required?: string[], description?: string, format?: string,
 *   pattern?: string, minLength?: number, maxLength?: number, minimum?: number, maximum?: number, default?: unknown,
 * }} SchemaObject
 * @typedef {SchemaObject | boolean | undefined} Schema
 * @typedef {Record<string, any>} Document
 */

// A longer list of values is cut.
const MAX_VALUES = 12;
const SHOWN_VALUES = 8;
// The maximum of 64-bit integers is not worth a note.
const HUGE = 9e18;

/** @param {string} text */
function words(text) {
  return text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

/**
 * Returns the paragraphs, lists and code of a description.
 * @param {string} [text]
 */
export function prose(text = "") {
  const parts = text.split(/\n\n+/).filter(Boolean);
  /** @param {string} part */
  const list = (part) => part.split(/\n(?=- )/).map((item) => h("li", {}, words(item.slice(2))));
  return parts.map((part) => (part.startsWith("- ") ? h("ul", {}, list(part)) : h("p", {}, words(part))));
}

/**
 * Returns a string unchanged, anything else as JSON.
 * @param {unknown} value
 */
export function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/**
 * Follows references within a document.
 * @param {any} schema
 * @param {Document} document
 * @returns {any}
 */
export function resolve(schema, document) {
  let found = schema;
  while (found?.$ref) {
    const keys = found.$ref.slice(2).split("/");
    found = keys.reduce((/** @type {any} */ at, /** @type {string} */ key) => at[key], document);
  }
  return found;
}

/**
 * Returns the name of a schema that is a reference.
 * @param {Schema} schema
 */
export function nameOf(schema) {
  return typeof schema === "object" ? schema.$ref?.split("/").pop() : undefined;
}

/**
 * @param {Schema} schema
 * @returns {string}
 */
export function typeOf(schema) {
  if (typeof schema !== "object") return "any";
  const name = nameOf(schema);
  if (name) return name;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const either = schema.anyOf ?? schema.oneOf;
  if (schema.type === undefined && either) return either.map(typeOf).join(" or ");
  if (schema.type === undefined && schema.enum) return "string";
  const types = [schema.type ?? "any"].flat();
  return types
    .map((type) => (type === "array" && schema.items ? `array of ${typeOf(schema.items)}` : type))
    .join(" or ");
}

/**
 * Returns the rules of a schema beside its type.
 * @param {Schema} schema
 * @returns {HTMLElement[]}
 */
export function rulesOf(schema) {
  if (typeof schema !== "object") return [];
  const { enum: values, format, minLength, maxLength, minimum, maximum, default: preset, pattern } = schema;
  const rules = [
    values && oneOf(values),
    format?.startsWith("uint") ? "" : format,
    minLength !== undefined && `at least ${minLength} characters`,
    maxLength !== undefined && `at most ${maxLength} characters`,
    minimum !== undefined && `from ${minimum}`,
    maximum !== undefined && maximum < HUGE && `to ${maximum}`,
    preset !== undefined && preset !== "" && preset !== null && `default ${JSON.stringify(preset)}`,
  ].filter(Boolean);
  const shown = [];
  if (rules.length) shown.push(h("p", { class: "rule" }, rules.join(", ")));
  if (pattern) shown.push(h("p", { class: "rule" }, "matches ", h("code", {}, pattern)));
  const either = schema.type === undefined ? [] : (schema.anyOf ?? []);
  const alternatives = either.filter((it) => typeof it === "object" && (it.pattern || it.enum || it.format));
  if (alternatives.length) {
    const items = alternatives.map((it) => h("li", {}, rulesOf(it)));
    shown.push(h("ul", {}, items));
  }
  return shown;
}

/** @param {unknown[]} values */
function oneOf(values) {
  if (values.length <= MAX_VALUES) return `one of ${values.map(String).join(", ")}`;
  return `one of ${values.slice(0, SHOWN_VALUES).join(", ")}, … (${values.length} values)`;
}

/**
 * A table with three columns.
 * @param {[string, string, string]} columns
 * @param {HTMLElement[]} rows
 */
export function table(columns, rows) {
  const cells = columns.map((column) => h("th", { scope: "col" }, column));
  const head = h("thead", {}, h("tr", {}, cells));
  return h("div", { class: "scroll" }, h("table", {}, head, h("tbody", {}, rows)));
}

/**
 * Shows the fields of an object, and then the objects within it.
 * @param {Schema} schema
 * @param {Document} document
 * @param {Set<string>} [seen] names that have been shown
 * @returns {Content[]}
 */
export function schemaTables(schema, document, seen = new Set()) {
  const name = nameOf(schema);
  if (name && seen.has(name)) return [];
  if (name) seen.add(name);
  /** @type {Schema} */
  const whole = resolve(schema, document);
  if (typeof whole !== "object") return [];
  /** @type {Content[]} */
  const inner = [];
  /** @param {Schema} part */
  const visit = (part) => {
    if (typeof part === "object") inner.push(...schemaTables(part, document, seen));
  };
  /** @param {Schema} part */
  const visitParts = (part) => {
    if (typeof part === "object") [part.items, ...(part.anyOf ?? []), ...(part.oneOf ?? [])].forEach(visit);
  };
  visitParts(whole);
  const title = name && h("h4", { class: "type" }, name);
  if (!whole.properties) return name ? [title, prose(whole.description), rulesOf(whole), inner] : inner;
  /** @param {string} key */
  const required = (key) => whole.required?.includes(key) ?? false;
  const fields = Object.entries(whole.properties).sort(([a], [b]) => Number(required(b)) - Number(required(a)));
  const rows = fields.map(([key, value]) => {
    visit(value);
    visitParts(value);
    const optional = !required(key) && [" ", h("span", { class: "rule" }, "optional")];
    const description = typeof value === "object" ? value.description : undefined;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("code", {}, key), optional),
      h("td", {}, typeOf(value)),
      h("td", {}, prose(description), rulesOf(value)),
    );
  });
  return [title || h("h4", {}, "Fields"), table(["Name", "Type", "Description"], rows), inner];
}
