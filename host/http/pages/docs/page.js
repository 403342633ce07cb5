// Shows the two documents that are within the page.

import { fill, h } from "../../console/element.js";
import { nameOf, pretty, prose, resolve, rulesOf, schemaTables, table, typeOf } from "./schema.js";
import { isPublic, jsonBody, tryForm } from "./try_it.js";

/** @import { Content } from "../../console/element.js" */
/** @import { ApiResponse, Endpoint, Operation, Parameter } from "./try_it.js" */
/** @typedef {{ action: string, channel: { $ref: string }, messages: object[], summary: string, "x-place": number }} Exchange */

/** @param {string} id */
function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element with the id ${id}`);
  return element;
}

/** @type {import("./schema.js").Document} */
const openapi = JSON.parse(byId("openapi").textContent ?? "");
/** @type {import("./schema.js").Document} */
const asyncapi = JSON.parse(byId("asyncapi").textContent ?? "");
const root = location.pathname.replace(/\/docs\/?$/, "");
let token = "";

/**
 * A part that is drawn when it is first opened.
 * @param {string} id
 * @param {Content[]} summary
 * @param {() => Content[]} content
 */
function operationDetails(id, summary, content) {
  const body = h("div", { class: "body" });
  const details = h("details", { class: "operation", id }, h("summary", {}, summary), body);
  details.addEventListener("toggle", () => {
    if (details.open && !body.childNodes.length) fill(body, content());
  });
  return details;
}

/** @param {Operation} operation */
function audience(operation) {
  if (isPublic(operation)) return "everyone";
  return operation.description?.match(/Needs the scope `(.+?)`/)?.[1] ?? "users";
}

/** @param {Endpoint} endpoint */
function drawOperation(endpoint) {
  const { path, method, operation } = endpoint;
  const summary = [
    h("span", { class: `method ${method}` }, method),
    h("h3", { class: "path" }, path),
    h("span", { class: "what" }, operation.summary),
    h("span", { class: "who" }, audience(operation)),
  ];
  return operationDetails(operation.operationId, summary, () => {
    const { parameters, responses } = operation;
    const body = jsonBody(operation);
    return [
      prose(operation.description),
      parameters && [h("h4", {}, "Parameters"), table(["Name", "Type", "Description"], parameters.map(parameterRow))],
      body && [h("h4", {}, `Body, ${body.media}`), schemaTables(body.schema, openapi)],
      h("h4", {}, "Responses"),
      table(["Status", "Type", "Description"], Object.entries(responses).map(responseRow)),
      example(responses),
      // A websocket cannot be opened by a request.
      operation.operationId !== "openSocket" && tryForm(endpoint, openapi, () => token),
    ];
  });
}

/** @param {Parameter} parameter */
function parameterRow(parameter) {
  const required = parameter.required && [" ", h("span", { class: "need" }, "required")];
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("code", {}, parameter.name), " ", h("span", { class: "rule" }, parameter.in)),
    h("td", {}, typeOf(parameter.schema), required),
    h("td", {}, prose(parameter.description), rulesOf(parameter.schema)),
  );
}

/** @param {[string, ApiResponse]} response */
function responseRow([status, { content, headers, description }]) {
  const [media, body] = Object.entries(content ?? {})[0] ?? [];
  const names = Object.keys(headers ?? {});
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, status),
    h("td", {}, body && typeOf(body.schema), media && media !== "application/json" && h("p", { class: "rule" }, media)),
    h("td", {}, prose(description), names.length > 0 && h("p", { class: "rule" }, `Headers: ${names.join(", ")}`)),
  );
}

/** @param {Record<string, ApiResponse>} responses */
function example(responses) {
  const [status, success] = Object.entries(responses).find(([status, it]) => Number(status) < 300 && it.content) ?? [];
  const [content] = Object.values(success?.content ?? {});
  if (!content) return null;
  return [
    content.example !== undefined && [
      h("h4", {}, `Example for ${status}`),
      h("pre", { tabindex: "0" }, pretty(content.example)),
    ],
    schemaTables(content.schema, openapi),
  ];
}

/**
 * @param {string} name
 * @param {Exchange} exchange
 */
function drawExchange(name, exchange) {
  const messages = exchange.messages.map((it) => resolve(it, asyncapi));
  const summary = [
    h("span", { class: `method ${exchange.action}` }, senderOf(exchange)),
    h("h3", { class: "path" }, messages.map((it) => it.title).join(", ")),
    h("span", { class: "what" }, exchange.summary),
    h("span", { class: "who" }, `${messages.map((it) => it["x-frame"]).join(", ")} frame`),
  ];
  /** @param {{ payload: unknown }} example */
  const payload = ({ payload }) => {
    return h("pre", { tabindex: "0" }, typeof payload === "string" ? payload : JSON.stringify(payload));
  };
  return operationDetails(`ws-${name}`, summary, () =>
    messages.map((message) => [
      prose(message.summary),
      h("p", { class: "rule" }, message.contentType),
      (message.examples ?? []).map(payload),
      schemaTables(message.payload, asyncapi),
    ]),
  );
}

/** @param {Exchange} exchange */
function senderOf({ action }) {
  return action === "receive" ? "client" : "server";
}

/**
 * A link of the table of contents.
 * @param {string} id
 * @param {string} kind
 * @param {string} label
 * @param {string} text
 */
function contentsLink(id, kind, label, text) {
  return h("li", {}, h("a", { href: `#${id}` }, h("span", { class: `method ${kind}` }, label), text));
}

/** @param {{ name: string, description: string }} tag */
function drawTag({ name, description }) {
  /** @type {Endpoint[]} */
  const endpoints = [];
  for (const [path, item] of Object.entries(openapi.paths)) {
    // A path with a server of its own lies outside of the routes of this page.
    const base = item.servers?.[0].url ? root.replace(/\/http$/, "") : root;
    for (const method of ["get", "post", "delete"]) {
      const operation = item[method];
      if (operation?.tags.includes(name)) endpoints.push({ path, method, operation, base });
    }
  }
  const id = `tag-${name}`;
  const links = endpoints.map((it) => contentsLink(it.operation.operationId, it.method, it.method, it.path));
  byId("contents").append(h("strong", {}, name), h("ul", {}, links));
  return h(
    "section",
    { "aria-labelledby": id },
    h("h2", { id }, name),
    h("p", {}, description),
    endpoints.map(drawOperation),
  );
}

/**
 * @param {string} name
 * @param {{ title: string, address: string, description: string }} channel
 */
function drawChannel(name, channel) {
  const all = /** @type {[string, Exchange][]} */ (Object.entries(asyncapi.operations));
  const exchanges = all
    .filter(([, it]) => nameOf(it.channel) === name)
    .sort(([, a], [, b]) => a["x-place"] - b["x-place"]);
  const links = exchanges.map(([id, it]) => {
    return contentsLink(`ws-${id}`, it.action, senderOf(it), resolve(it.messages[0], asyncapi).title);
  });
  byId("contents").append(h("strong", {}, channel.title), h("ul", {}, links));
  const id = `channel-${name}`;
  return h(
    "section",
    { "aria-labelledby": id },
    h("h2", { id }, channel.title),
    h("p", {}, "The websocket at ", h("code", {}, channel.address)),
    h("div", { class: "about" }, prose(channel.description)),
    exchanges.map(([id, it]) => drawExchange(id, it)),
  );
}

function tokenForm() {
  const input = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "dst_…",
    oninput: () => {
      token = input.value.trim();
    },
  });
  return h(
    "form",
    { onsubmit: (event) => event.preventDefault() },
    h("h2", { class: "minor" }, "Authentication"),
    h("div", { class: "field" }, h("label", { for: "token" }, "Token"), input),
    h("p", { class: "rule" }, "The token stays on this page. Without one, requests use the session of this browser."),
  );
}

/** @param {HTMLElement} main */
function filterBy(main) {
  const wanted = /** @type {HTMLInputElement} */ (byId("filter")).value.trim().toLowerCase();
  for (const details of /** @type {NodeListOf<HTMLElement>} */ (main.querySelectorAll("details.operation"))) {
    const text = details.querySelector("summary")?.textContent ?? "";
    details.hidden = wanted !== "" && !text.toLowerCase().includes(wanted);
  }
  for (const link of byId("contents").querySelectorAll("a")) {
    const item = link.closest("li");
    if (item) item.hidden = byId(link.hash.slice(1)).hidden;
  }
}

// Opens the operation that the address names.
function openLinked() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!(target instanceof HTMLDetailsElement)) return;
  target.open = true;
  target.scrollIntoView();
}

function draw() {
  const main = byId("main");
  byId("version").textContent = `${openapi.info.summary}, version ${openapi.info.version}`;
  const links = ["openapi.json", "asyncapi.json"].map((name) => h("a", { href: `${root}/${name}` }, name));
  const tags = openapi.tags.map(drawTag);
  const channels = Object.entries(asyncapi.channels).map(([name, channel]) => drawChannel(name, channel));
  main.append(
    h("div", { class: "about" }, prose(openapi.info.description)),
    h("p", {}, "For programs: ", links[0], " and ", links[1], "."),
    tokenForm(),
    ...tags,
    ...channels,
    h(
      "section",
      { "aria-labelledby": "socket-rules" },
      h("h2", { id: "socket-rules" }, "Every websocket"),
      h("div", { class: "about" }, prose(asyncapi.info.description)),
    ),
  );
  byId("filter").addEventListener("input", () => filterBy(main));
  addEventListener("hashchange", openLinked);
  openLinked();
}

draw();
