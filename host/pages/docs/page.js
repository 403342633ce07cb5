"use strict";
// Draws the two documents that are within this page. Text only ever becomes text: nothing here is HTML.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const openapi = read("openapi");
const asyncapi = read("asyncapi");
const root = location.pathname.replace(/\/docs\/?$/, "");
let token = "";

function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(9).filter((child) => child !== undefined && child !== null && child !== ""));
  return node;
}

// The little of Markdown that descriptions use: paragraphs, lists and code.
const words = (text) => text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));
const prose = (text) =>
  (text ?? "")
    .split(/\n\n+/)
    .filter((part) => part)
    .map((part) =>
      part.startsWith("- ")
        ? make(
            "ul",
            {},
            part.split(/\n(?=- )/).map((item) => make("li", {}, words(item.slice(2)))),
          )
        : make("p", {}, words(part)),
    );

const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

function resolve(schema, from) {
  let found = schema;
  while (found?.$ref)
    found = found.$ref
      .slice(2)
      .split("/")
      .reduce((at, key) => at[key], from);
  return found;
}

const nameOf = (schema) => schema?.$ref?.split("/").pop();

function typeOf(schema) {
  if (schema === true || schema === undefined) return "anything";
  if (nameOf(schema)) return nameOf(schema);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === undefined && (schema.anyOf ?? schema.oneOf)) {
    return (schema.anyOf ?? schema.oneOf).map(typeOf).join(" or ");
  }
  if (schema.type === undefined && schema.enum) return "string";
  const names = [schema.type ?? "anything"].flat().map((type) => {
    if (type === "array") return schema.items ? `list of ${typeOf(schema.items)}` : "list";
    return type === "null" ? "nothing" : type;
  });
  return names.join(" or ");
}

function rulesOf(schema) {
  const rules = [];
  const say = (key, text) => {
    if (schema[key] !== undefined) rules.push(text(schema[key]));
  };
  say("enum", (all) =>
    all.length > 12
      ? `one of ${all.slice(0, 8).join(", ")}, … (${all.length} in all)`
      : `one of ${all.map((it) => it ?? "nothing").join(", ")}`,
  );
  say("format", (it) => (it.startsWith("uint") ? "" : it));
  say("minLength", (it) => `at least ${it} characters`);
  say("maxLength", (it) => `at most ${it} characters`);
  say("minimum", (it) => `from ${it}`);
  say("maximum", (it) => (it === 9223372036854775807 || it > 9e18 ? "" : `to ${it}`));
  say("default", (it) => (it === "" || it === null ? "" : `${JSON.stringify(it)} if it is left out`));
  const rest = rules.filter((rule) => rule).join(", ");
  const told = rest ? [make("p", { class: "rule" }, rest)] : [];
  if (schema.pattern) told.push(make("p", { class: "rule" }, "matches ", make("code", {}, schema.pattern)));
  const either = schema.type !== undefined ? (schema.anyOf ?? []) : [];
  const ways = either.filter((it) => it.pattern || it.enum || it.format);
  if (ways.length)
    told.push(
      make(
        "ul",
        {},
        ways.map((it) => make("li", {}, rulesOf(it))),
      ),
    );
  return told;
}

// A table of what an object has, and the objects within it after that.
function schemaTables(schema, from, seen = new Set()) {
  const name = nameOf(schema);
  if (name && seen.has(name)) return [];
  if (name) seen.add(name);
  const whole = resolve(schema, from);
  if (!whole || whole === true) return [];
  const inner = [];
  const visit = (part) => {
    if (part && typeof part === "object") inner.push(...schemaTables(part, from, seen));
  };
  const parts = (part) => [part?.items, ...(part?.anyOf ?? []), ...(part?.oneOf ?? [])];
  parts(whole).forEach(visit);
  if (!whole.properties) {
    if (!name) return inner;
    return [make("h4", { class: "type" }, name), prose(whole.description), rulesOf(whole), inner];
  }
  const needed = (key) => whole.required?.includes(key) ?? false;
  const rows = Object.entries(whole.properties)
    .sort(([a], [b]) => needed(b) - needed(a))
    .map(([key, value]) => {
      visit(value);
      parts(value).forEach(visit);
      const told = typeof value === "object" ? value : {};
      return make(
        "tr",
        {},
        make(
          "th",
          { scope: "row" },
          make("code", {}, key),
          needed(key) ? "" : [" ", make("span", { class: "rule" }, "may be missing")],
        ),
        make("td", {}, typeOf(value)),
        make("td", {}, prose(told.description), rulesOf(told)),
      );
    });
  return [
    name ? make("h4", { class: "type" }, name) : make("h4", {}, "Its parts"),
    make(
      "div",
      { class: "scroll" },
      make(
        "table",
        {},
        make(
          "thead",
          {},
          make(
            "tr",
            {},
            ["Name", "Type", "Meaning"].map((it) => make("th", { scope: "col" }, it)),
          ),
        ),
        make("tbody", {}, rows),
      ),
    ),
    inner,
  ];
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function copyable(text) {
  const code = make("pre", { tabindex: "0" }, text);
  const button = make(
    "button",
    {
      type: "button",
      class: "plain",
      click: () => {
        navigator.clipboard?.writeText(code.textContent).then(() => {
          button.textContent = "Copied";
          setTimeout(() => {
            button.textContent = "Copy";
          }, 1500);
        });
      },
    },
    "Copy",
  );
  return { code, button };
}

function tryForm(path, method, operation, servers, id) {
  const inputs = [];
  const field = (label, input) => {
    input.id = `${id}-${inputs.length}-${label.replace(/\W/g, "")}`;
    return make("div", { class: "field" }, make("label", { for: input.id }, label), input);
  };
  const fields = (operation.parameters ?? []).map((parameter) => {
    const choices = resolve(parameter.schema, openapi).type === undefined && parameter.schema.enum;
    const input = choices
      ? make(
          "select",
          {},
          make("option", { value: "" }, ""),
          choices.map((it) => make("option", {}, it)),
        )
      : make("input", {
          type: "text",
          autocomplete: "off",
          spellcheck: "false",
          placeholder: String(parameter.example ?? ""),
        });
    if (parameter.required) {
      input.required = true;
      input.value = String(parameter.example ?? "");
    }
    inputs.push({ parameter, input });
    return field(parameter.name, input);
  });
  const example = operation.requestBody?.content["application/json"].example;
  const body = example && make("textarea", { spellcheck: "false" });
  if (body) {
    body.value = pretty(example);
    fields.push(field("Body", body));
  }

  const base = servers ?? root;
  const url = () => {
    let filled = path;
    const query = new URLSearchParams();
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.set(parameter.name, input.value);
    }
    return `${base}${filled}${query.size ? `?${query}` : ""}`;
  };
  const line = () => {
    const parts = ["curl"];
    if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
    if (!operation.security.some((it) => Object.keys(it).length === 0))
      parts.push("-H 'Authorization: Bearer '\"$TOKEN\"");
    if (body) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(body.value)}`);
    parts.push(quoted(location.origin + url()));
    return parts.join(" \\\n  ");
  };
  const { code, button } = copyable("");
  const draw = () => {
    code.textContent = line();
  };
  const status = make("p", { class: "status", role: "status" });
  const answer = make("pre", { tabindex: "0", "aria-label": "The answer", hidden: true });
  const stream = operation.responses["200"]?.content?.["text/event-stream"];
  let running;

  async function send(event) {
    event.preventDefault();
    running?.abort();
    running = new AbortController();
    const headers = {};
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body) headers["Content-Type"] = "application/json";
    status.textContent = "Asking…";
    answer.hidden = true;
    try {
      const got = await fetch(url(), {
        method: method.toUpperCase(),
        headers,
        body: body?.value,
        signal: running.signal,
        cache: "no-store",
      });
      status.textContent = `${got.status} ${got.statusText}`;
      answer.hidden = false;
      answer.textContent = "";
      if (stream && got.ok) {
        const reader = got.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let part = await reader.read(); !part.done; part = await reader.read()) answer.append(part.value);
        return;
      }
      const text = await got.text();
      try {
        answer.textContent = pretty(JSON.parse(text));
      } catch {
        answer.textContent = text;
      }
      answer.hidden = text === "";
    } catch (error) {
      if (error.name !== "AbortError") status.textContent = `There was no answer: ${error.message}`;
      else status.textContent = "Stopped";
    }
  }
  const form = make(
    "form",
    { submit: send, input: draw },
    make("h4", {}, "Try it"),
    make("fieldset", {}, fields),
    make(
      "div",
      { class: "row" },
      make("button", { type: "submit" }, "Send"),
      stream ? make("button", { type: "button", class: "plain", click: () => running?.abort() }, "Stop") : "",
      button,
    ),
    code,
    status,
    answer,
  );
  draw();
  return form;
}

function who(operation) {
  if (operation.security.some((it) => Object.keys(it).length === 0)) return "everyone";
  return operation.description?.match(/Needs the scope `(.+?)`/)?.[1] ?? "users";
}

function drawOperation(path, method, operation, servers) {
  const id = operation.operationId;
  const body = make("div", { class: "body" });
  const details = make(
    "details",
    { class: "operation", id },
    make(
      "summary",
      {},
      make("span", { class: `method ${method}` }, method),
      make("h3", { class: "path" }, path),
      make("span", { class: "what" }, operation.summary),
      make("span", { class: "who" }, who(operation)),
    ),
    body,
  );
  // Drawn when it is first looked at.
  details.addEventListener("toggle", () => {
    if (!details.open || body.childNodes.length) return;
    body.append(...prose(operation.description));
    if (operation.parameters) {
      body.append(
        make("h4", {}, "Parameters"),
        make(
          "div",
          { class: "scroll" },
          make(
            "table",
            {},
            make(
              "thead",
              {},
              make(
                "tr",
                {},
                ["Name", "Type", "Meaning"].map((it) => make("th", { scope: "col" }, it)),
              ),
            ),
            make(
              "tbody",
              {},
              operation.parameters.map((it) =>
                make(
                  "tr",
                  {},
                  make("th", { scope: "row" }, make("code", {}, it.name), " ", make("span", { class: "rule" }, it.in)),
                  make(
                    "td",
                    {},
                    typeOf(it.schema),
                    it.required ? [" ", make("span", { class: "need" }, "needed")] : "",
                  ),
                  make("td", {}, prose(it.description), rulesOf(it.schema)),
                ),
              ),
            ),
          ),
        ),
      );
    }
    if (operation.requestBody) {
      body.append(
        make("h4", {}, "Body, application/json"),
        ...schemaTables(operation.requestBody.content["application/json"].schema, openapi).flat(9),
      );
    }
    body.append(
      make("h4", {}, "Answers"),
      make(
        "div",
        { class: "scroll" },
        make(
          "table",
          {},
          make(
            "thead",
            {},
            make(
              "tr",
              {},
              ["Status", "Type", "Meaning"].map((it) => make("th", { scope: "col" }, it)),
            ),
          ),
          make(
            "tbody",
            {},
            Object.entries(operation.responses).map(([status, it]) => {
              const [[media, content] = []] = Object.entries(it.content ?? {});
              const headers = Object.keys(it.headers ?? {});
              return make(
                "tr",
                {},
                make("th", { scope: "row" }, status),
                make(
                  "td",
                  {},
                  content ? typeOf(content.schema) : "",
                  media && media !== "application/json" ? make("p", { class: "rule" }, media) : "",
                ),
                make(
                  "td",
                  {},
                  prose(it.description),
                  headers.length ? make("p", { class: "rule" }, "Headers: ", headers.join(", ")) : "",
                ),
              );
            }),
          ),
        ),
      ),
    );
    const good = Object.entries(operation.responses).find(([status, it]) => status < 300 && it.content);
    if (good) {
      const [[, content]] = Object.entries(good[1].content);
      if (content.example)
        body.append(
          make("h4", {}, `Such as, with ${good[0]}`),
          make("pre", { tabindex: "0" }, pretty(content.example)),
        );
      body.append(...schemaTables(content.schema, openapi).flat(9));
    }
    if (id !== "openSocket") body.append(tryForm(path, method, operation, servers, id));
  });
  return details;
}

function drawMessage(name, operation) {
  const id = `ws-${name}`;
  const body = make("div", { class: "body" });
  const details = make(
    "details",
    { class: "operation", id },
    make(
      "summary",
      {},
      make("span", { class: `method ${operation.action}` }, operation.action === "receive" ? "client" : "server"),
      make("h3", { class: "path" }, operation.messages.map((it) => resolve(it, asyncapi).title).join(", ")),
      make("span", { class: "what" }, operation.summary),
      make(
        "span",
        { class: "who" },
        `${operation.messages.map((it) => resolve(it, asyncapi)["x-frame"]).join(", ")} frame`,
      ),
    ),
    body,
  );
  details.addEventListener("toggle", () => {
    if (!details.open || body.childNodes.length) return;
    for (const message of operation.messages.map((it) => resolve(it, asyncapi))) {
      body.append(...prose(message.summary), make("p", { class: "rule" }, message.contentType));
      for (const example of message.examples ?? [])
        body.append(
          make(
            "pre",
            { tabindex: "0" },
            typeof example.payload === "string" ? example.payload : JSON.stringify(example.payload),
          ),
        );
      body.append(...schemaTables(message.payload, asyncapi).flat(9));
    }
  });
  return details;
}

function draw() {
  document.getElementById("version").textContent = `${openapi.info.summary}, version ${openapi.info.version}`;
  const main = document.getElementById("main");
  const contents = document.getElementById("contents");
  const input = make("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "dst_…",
    input: () => {
      token = input.value.trim();
    },
  });
  main.append(
    make("div", { class: "about" }, prose(openapi.info.description)),
    make(
      "p",
      {},
      "For programs: ",
      make("a", { href: `${root}/openapi.json` }, "openapi.json"),
      " and ",
      make("a", { href: `${root}/asyncapi.json` }, "asyncapi.json"),
      ".",
    ),
    make(
      "form",
      { submit: (event) => event.preventDefault() },
      make("h4", {}, "To try it as somebody"),
      make("div", { class: "field" }, make("label", { for: "token" }, "Token"), input),
      make(
        "p",
        { class: "rule" },
        "Kept on this page only. Without one, the session of this browser is used, if there is one.",
      ),
    ),
  );

  const link = (id, method, label, text) =>
    make(
      "li",
      { "data-text": text.toLowerCase() },
      make("a", { href: `#${id}` }, make("span", { class: `method ${method}` }, label), text),
    );
  for (const tag of openapi.tags) {
    const found = [];
    for (const [path, item] of Object.entries(openapi.paths)) {
      for (const method of ["get", "post", "delete"]) {
        if (item[method]?.tags.includes(tag.name))
          found.push([path, method, item[method], item.servers?.[0].url && root.replace(/\/http$/, "")]);
      }
    }
    main.append(
      make(
        "section",
        { "aria-labelledby": `tag-${tag.name}` },
        make("h2", { id: `tag-${tag.name}` }, tag.name),
        make("p", {}, tag.description),
        found.map((it) => drawOperation(...it)),
      ),
    );
    contents.append(
      make("strong", {}, tag.name),
      make(
        "ul",
        {},
        found.map(([path, method, operation]) => link(operation.operationId, method, method, path)),
      ),
    );
  }
  for (const [name, channel] of Object.entries(asyncapi.channels)) {
    const own = Object.entries(asyncapi.operations)
      .filter(([, it]) => nameOf(it.channel) === name)
      .sort(([, a], [, b]) => a["x-place"] - b["x-place"]);
    main.append(
      make(
        "section",
        { "aria-labelledby": `channel-${name}` },
        make("h2", { id: `channel-${name}` }, channel.title),
        make("p", {}, "The websocket at ", make("code", {}, channel.address)),
        make("div", { class: "about" }, prose(channel.description)),
        own.map((it) => drawMessage(...it)),
      ),
    );
    contents.append(
      make("strong", {}, channel.title),
      make(
        "ul",
        {},
        own.map(([id, it]) =>
          link(
            `ws-${id}`,
            it.action,
            it.action === "receive" ? "client" : "server",
            resolve(it.messages[0], asyncapi).title,
          ),
        ),
      ),
    );
  }
  main.append(
    make(
      "section",
      { "aria-labelledby": "socket-rules" },
      make("h2", { id: "socket-rules" }, "Every websocket"),
      make("div", { class: "about" }, prose(asyncapi.info.description)),
    ),
  );

  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const operation of main.querySelectorAll("details.operation")) {
      operation.hidden =
        wanted !== "" && !operation.querySelector("summary").textContent.toLowerCase().includes(wanted);
    }
    for (const item of contents.querySelectorAll("li")) {
      item.hidden = document.getElementById(item.firstChild.hash.slice(1)).hidden;
    }
  });
  // An operation that is linked to is open.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
}

draw();
