// The fields for the parameters of a call, and the values that are in them. What is right the server decides; what is
// surely wrong is said here before it is asked.

import { field, h } from "./dom.js";

// The regular expressions that mean the same to the server and to a browser: characters, classes of them, groups and
// repetitions.
const SAME =
  /^(?:[\w ,;:@/=%#!"'<>&~-]|\\[.+*?()|[\]{}^$/-]|\[\^?(?:[\w .,;:@/=%#!"'+*?()|{}$&~-]|\\[.\][\\^-])+\]|[.+*?()|]|\{\d+(?:,\d*)?\})+$/;
const SETS = /&&|--|~~|\(\?/;

// Whether a value breaks a pattern; nothing where a browser cannot tell.
export function breaks(pattern, value) {
  if (pattern === null || !SAME.test(pattern) || SETS.test(pattern)) return false;
  try {
    return !new RegExp(`^(?:${pattern})$`, "u").test(value);
  } catch {
    return false;
  }
}

// The fields: `element`, and `read()`, which gives {values, secrets} or nothing, with what is wrong beside its field.
export function form(params, before = []) {
  if (params === null) return free(before);
  const fields = params.map((spec, at) => (spec.rest ? rest(spec, before.slice(at)) : one(spec, before[at])));
  const read = () => {
    const given = fields.map((it) => it.read());
    const values = [];
    const secrets = new Set();
    let first = null;
    const wrong = (it, what) => {
      it.complain(what);
      first ??= it;
    };
    // Values are told apart by where they stand: none may be missing before the last one that is given.
    const last = given.findLastIndex((it) => it.given.length > 0);
    fields.forEach((it, at) => {
      const { given: own, bad } = given[at];
      if (bad) wrong(it, bad);
      else if (own.length === 0 && it.spec.required) wrong(it, "This is needed.");
      else if (own.length === 0 && at < last) wrong(it, `This is needed where ${fields[last].spec.name} is given.`);
      for (const value of own) {
        if (it.spec.secret) secrets.add(values.length);
        values.push(value);
      }
    });
    first?.focus();
    return first ? null : { values, secrets };
  };
  const none = params.length === 0 && h("p", { class: "hint" }, "This call takes no parameters.");
  return {
    element: h(
      "div",
      { class: "fields" },
      none,
      fields.map((it) => it.element),
    ),
    read,
  };
}

const OPTIONAL = "may be left out";

function label(spec) {
  return [spec.name, !spec.required && spec.default === null && h("span", { class: "aside" }, ` ${OPTIONAL}`)];
}

function hint(spec) {
  const parts = [
    spec.description,
    spec.pattern !== null && spec.choices === null && ["Pattern: ", h("code", {}, spec.pattern)],
  ];
  const shown = parts.filter(Boolean);
  return shown.length ? shown.flatMap((it, at) => (at ? [" · ", it] : it)) : null;
}

function one(spec, before) {
  const value = before ?? spec.default ?? "";
  const typed = { autocomplete: "off", autocapitalize: "off", spellcheck: "false", value };
  if (spec.choices) {
    const empty = spec.default === null && h("option", { value: "" }, spec.required ? "Choose one" : "Not given");
    const select = h(
      "select",
      { required: spec.required },
      empty,
      spec.choices.map((it) => h("option", { value: it }, it === "" ? "(empty)" : it)),
    );
    if (spec.choices.includes(value)) select.value = value;
    return checked(spec, field(label(spec), select, { hint: hint(spec) }));
  }
  if (!spec.secret)
    return checked(
      spec,
      field(label(spec), h("input", { type: "text", required: spec.required, ...typed }), { hint: hint(spec) }),
    );
  const input = h("input", {
    type: "password",
    required: spec.required,
    ...typed,
    value: "",
    autocomplete: "new-password",
  });
  const show = h(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      onclick: () => {
        const shown = input.type === "password";
        input.type = shown ? "text" : "password";
        show.setAttribute("aria-pressed", String(shown));
      },
    },
    `Show ${spec.name}`,
  );
  return checked(spec, field(label(spec), input, { hint: hint(spec), more: show }));
}

function checked(spec, { element, input, complain }) {
  const read = () => {
    const value = input.value;
    if (value === "" && !(spec.choices?.includes("") && input.selectedOptions?.[0]?.textContent === "(empty)"))
      return { given: [] };
    return { given: [value], bad: breaks(spec.pattern, value) && `This does not match ${spec.pattern}.` };
  };
  return { spec, element, complain, read, focus: () => input.focus() };
}

// As many values as somebody wants: a field each.
function rest(spec, before) {
  const { element, read, complain, focus } = several(
    spec.name,
    hint(spec),
    spec,
    before.length ? before : spec.default === null ? [] : [spec.default],
  );
  return {
    spec,
    element,
    complain,
    focus,
    read: () => {
      const given = read();
      const bad = given.map((value) => breaks(spec.pattern, value)).indexOf(true);
      return { given, bad: bad >= 0 && `Number ${bad + 1} does not match ${spec.pattern}.` };
    },
  };
}

// A call that takes anything.
function free(before) {
  const all = several("Parameters", "This call takes any number of parameters.", {}, before);
  return {
    element: h("div", { class: "fields" }, all.element),
    read: () => ({ values: all.read(), secrets: new Set() }),
  };
}

function several(name, description, spec, before) {
  const items = [];
  const list = h("div", { class: "several" });
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const renumber = () =>
    items.forEach((it, at) => {
      it.input.setAttribute("aria-label", `${name}, number ${at + 1}`);
      it.remove.setAttribute("aria-label", `Remove number ${at + 1} of ${name}`);
    });
  const more = h("button", { type: "button", onclick: () => add("").focus() }, "Add a value");
  const add = (value) => {
    const common = { value, autocomplete: "off", autocapitalize: "off", spellcheck: "false" };
    const input = spec.choices
      ? h(
          "select",
          {},
          spec.choices.map((it) => h("option", { value: it }, it)),
        )
      : h("input", { type: spec.secret ? "password" : "text", ...common });
    if (spec.choices?.includes(value)) input.value = value;
    const item = {
      input,
      remove: h(
        "button",
        {
          type: "button",
          class: "quiet",
          onclick: () => {
            const at = items.indexOf(item);
            items.splice(at, 1);
            item.element.remove();
            renumber();
            (items[Math.min(at, items.length - 1)]?.input ?? more).focus();
          },
        },
        "✕",
      ),
    };
    item.element = h("div", { class: "beside" }, input, item.remove);
    items.push(item);
    list.append(item.element);
    renumber();
    return input;
  };
  before.forEach(add);
  const element = h(
    "fieldset",
    {},
    h("legend", {}, name),
    description && h("p", { class: "hint" }, description),
    list,
    more,
    error,
  );
  const complain = (what) => {
    error.textContent = what ?? "";
    error.hidden = !what;
  };
  element.addEventListener("input", () => complain());
  return {
    element,
    complain,
    read: () => items.map((it) => it.input.value),
    focus: () => (items[0]?.input ?? more).focus(),
  };
}
