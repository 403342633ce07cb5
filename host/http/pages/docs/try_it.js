// A form that sends a request, and shows the same request for curl.

import { copyButton, h } from "../../console/element.js";
import { pretty, resolve } from "./schema.js";

/** @import { Schema } from "./schema.js" */
/**
 * @typedef {{
 *   name: string, in: string, required?: boolean, description?: string, example?: unknown, schema: Schema,
 * }} Parameter
 * @typedef {{
 *   operationId: string, tags: string[], summary: string, description?: string, parameters?: Parameter[],
 *   requestBody?: { content: Record<string, { schema: Schema, example?: unknown }> },
 *   responses: Record<string, ApiResponse>, security: Record<string, unknown>[],
 * }} Operation
 * @typedef {{
 *   description: string, headers?: Record<string, unknown>,
 *   content?: Record<string, { schema: Schema, example?: unknown }>,
 * }} ApiResponse
 * @typedef {{ path: string, method: string, operation: Operation, base: string }} Endpoint
 * @typedef {{ parameter: Parameter, input: HTMLInputElement | HTMLSelectElement }} ParameterInput
 */

/** @param {Operation} operation */
export function isPublic(operation) {
  return operation.security.some((it) => Object.keys(it).length === 0);
}

/**
 * Returns the media type and the description of a body in JSON.
 * @param {Operation} operation
 */
export function jsonBody({ requestBody }) {
  const found = Object.entries(requestBody?.content ?? {}).find(([media]) => media.endsWith("json"));
  return found && { media: found[0], ...found[1] };
}

/** @param {string} text */
function shellQuoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * @param {Endpoint} endpoint
 * @param {import("./schema.js").Document} openapi
 * @param {() => string} token
 */
export function tryForm(endpoint, openapi, token) {
  const { operation, method } = endpoint;
  // Parameters of any name are in the body, too.
  const fixed = (operation.parameters ?? []).filter(
    ({ schema }) => typeof schema !== "object" || schema.type !== "object",
  );
  const inputs = fixed.map((parameter) => ({
    parameter,
    input: parameterInput(parameter, openapi),
  }));
  const body = bodyInput(operation);
  const fields = inputs.map(({ parameter, input }, at) => labelled(operation, at, parameter.name, input));
  if (body) fields.push(labelled(operation, fields.length, "Body", body));

  const code = h("pre", { tabindex: "0" });
  const drawCommand = () => {
    code.textContent = command(endpoint, inputs, body);
  };
  const copy = copyButton("Copy", () => code.textContent ?? "");
  copy.className = "plain";
  const status = h("p", { class: "status", role: "status" });
  const response = h("pre", { tabindex: "0", "aria-label": "Response", hidden: true });
  /** @type {AbortController | undefined} */
  let running;
  /** @param {SubmitEvent} event */
  const send = async (event) => {
    event.preventDefault();
    running?.abort();
    running = new AbortController();
    /** @type {Record<string, string>} */
    const headers = {};
    if (token()) headers.Authorization = `Bearer ${token()}`;
    if (body) headers["Content-Type"] = jsonBody(operation)?.media ?? "";
    const request = { method: method.toUpperCase(), headers, body: body?.value, signal: running.signal };
    status.textContent = "Sending…";
    response.hidden = true;
    try {
      const answer = await fetch(url(endpoint, inputs), { ...request, cache: "no-store" });
      status.textContent = `${answer.status} ${answer.statusText}`;
      await showResponse(answer, response);
    } catch (error) {
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      status.textContent = name === "AbortError" ? "Stopped" : `No response: ${message}`;
    }
  };
  const streams = operation.responses["200"]?.content?.["text/event-stream"] !== undefined;
  const stop = h("button", { type: "button", class: "plain", onclick: () => running?.abort() }, "Stop");
  const form = h(
    "form",
    { onsubmit: send, oninput: drawCommand },
    h("h4", {}, "Try it"),
    h("fieldset", {}, fields),
    h("div", { class: "row" }, h("button", { type: "submit" }, "Send"), streams && stop, copy),
    code,
    status,
    response,
  );
  drawCommand();
  return form;
}

/**
 * @param {Parameter} parameter
 * @param {import("./schema.js").Document} openapi
 */
function parameterInput(parameter, openapi) {
  /** @type {Schema} */
  const schema = resolve(parameter.schema, openapi);
  const choices = typeof schema === "object" && schema.type === undefined ? schema.enum : undefined;
  const example = String(parameter.example ?? "");
  const options = choices?.map((it) => h("option", {}, String(it)));
  const input = options
    ? h("select", {}, h("option", { value: "" }, ""), options)
    : h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: example });
  if (parameter.required) {
    input.required = true;
    input.value = example;
  }
  return input;
}

/** @param {Operation} operation */
function bodyInput(operation) {
  const example = jsonBody(operation)?.example;
  return example ? h("textarea", { spellcheck: "false", value: pretty(example) }) : null;
}

/**
 * @param {Operation} operation
 * @param {number} at
 * @param {string} label
 * @param {HTMLElement} input
 */
function labelled(operation, at, label, input) {
  input.id = `${operation.operationId}-${at}-${label.replace(/\W/g, "")}`;
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input);
}

/**
 * @param {Endpoint} endpoint
 * @param {ParameterInput[]} inputs
 */
function url({ base, path }, inputs) {
  let filled = path;
  const query = new URLSearchParams();
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.set(parameter.name, input.value);
  }
  return `${base}${filled}${query.size ? `?${query}` : ""}`;
}

/**
 * Returns the request as a command for a shell.
 * @param {Endpoint} endpoint
 * @param {ParameterInput[]} inputs
 * @param {HTMLTextAreaElement | null} body
 */
function command(endpoint, inputs, body) {
  const parts = ["curl"];
  if (endpoint.method !== "get") parts.push(`-X ${endpoint.method.toUpperCase()}`);
  if (!isPublic(endpoint.operation)) parts.push("-H 'Authorization: Bearer '\"$TOKEN\"");
  const media = jsonBody(endpoint.operation)?.media;
  if (body) parts.push(`-H 'Content-Type: ${media}'`, `-d ${shellQuoted(body.value)}`);
  parts.push(shellQuoted(location.origin + url(endpoint, inputs)));
  return parts.join(" \\\n  ");
}

/**
 * Shows the body of a response. Events appear as they come.
 * @param {Response} answer
 * @param {HTMLElement} element
 */
async function showResponse(answer, element) {
  element.hidden = false;
  element.textContent = "";
  const events = answer.headers.get("content-type")?.startsWith("text/event-stream");
  if (events && answer.body) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) element.append(part.value);
    return;
  }
  const text = await answer.text();
  try {
    element.textContent = pretty(JSON.parse(text));
  } catch {
    element.textContent = text;
  }
  element.hidden = text === "";
}
