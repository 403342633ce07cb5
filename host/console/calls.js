// The calls that the caller may run, and the form of one.

import { caller, get } from "./api.js";
import { badge, fill, h, notice, say } from "./dom.js";
import { form } from "./form.js";
import * as running from "./running.js";

// What a process was run with, to be run again: it goes with the page, as it may be worth knowing.
let again = null;

export function runAgain({ call, params }) {
  again = { call, params };
  location.hash = `#/calls/${encodeURIComponent(call)}`;
}

export async function show({ main, at, signal, title }) {
  const calls = await get("calls");
  if (signal.aborted) return;
  const list = h("ul", { class: "list" });
  const filter = h("input", {
    type: "search",
    "aria-label": "Filter calls",
    placeholder: "Filter",
    "data-filter": "",
    autocomplete: "off",
    spellcheck: "false",
  });
  const draw = () => {
    const wanted = calls.filter((it) =>
      `${it.name} ${it.description} ${it.plugin}`.toLowerCase().includes(filter.value.trim().toLowerCase()),
    );
    fill(
      list,
      wanted.map((call) =>
        h(
          "li",
          {},
          h(
            "a",
            {
              href: `#/calls/${encodeURIComponent(call.name)}`,
              "aria-current": call.name === at.name ? "page" : undefined,
            },
            h("strong", {}, call.name),
            h("span", {}, call.description),
          ),
        ),
      ),
    );
    if (!wanted.length) fill(list, h("li", { class: "empty" }, "No call is like that."));
  };
  filter.addEventListener("input", draw);
  draw();
  const call = calls.find((it) => it.name === at.name);
  if (call) title(call.name);
  if (!calls.length) {
    return fill(
      main,
      h("h1", { tabindex: "-1" }, "Calls"),
      h(
        "p",
        { class: "empty" },
        "There is no call that you may run. ",
        !caller.user && [h("a", { href: "#/login" }, "Log in"), " to see those that need a scope."],
      ),
    );
  }
  const side = h("section", { class: "side", "aria-label": "All calls" }, filter, list);
  const body = at.name
    ? h(
        "section",
        { class: "body" },
        call
          ? one(call, signal)
          : [
              h("h1", { tabindex: "-1" }, at.name),
              notice("bad", `There is no call ${JSON.stringify(at.name)} that you may run.`),
            ],
      )
    : h(
        "section",
        { class: "body" },
        h("h1", { tabindex: "-1" }, "Calls"),
        h("p", { class: "hint" }, "Choose a call to see its parameters and to run it."),
      );
  fill(main, h("div", { class: `split ${at.name ? "chosen" : ""}` }, side, body));
}

function one(call, signal) {
  const before = again?.call === call.name ? again.params.map((it) => it ?? "") : [];
  again = null;
  const fields = form(call.params, before);
  const detach = h("input", { type: "checkbox", checked: call.on_disconnect === "detach" });
  const button = h("button", { class: "primary" }, "Run");
  const give_up = h("button", { type: "button", hidden: true }, "Give up");
  const state = h("div", { class: "state" });
  const element = h(
    "form",
    {
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        const read = fields.read();
        if (read) run(read);
      },
    },
    fields.element,
    h("p", { class: "field" }, h("label", { class: "check" }, detach, " Keep it running when this page is closed")),
    h("p", { class: "row" }, button, give_up),
    state,
  );

  function run({ values, secrets }) {
    const process = running.start(call.name, values, secrets, detach.checked ? "detach" : "cancel");
    button.disabled = true;
    give_up.hidden = false;
    give_up.onclick = () => {
      running.forget(process);
      settle();
      fill(state);
    };
    fill(state, h("p", { class: "hint", role: "status" }, "Starting…"));
    process.addEventListener("state", () => {
      if (process.state === "queued")
        fill(
          state,
          h("p", { class: "hint", role: "status" }, `All places are taken. Waiting as number ${process.position}.`),
        );
      else if (process.state === "refused") {
        settle();
        fill(state, notice("bad", h("strong", {}, "Not run: "), `${process.why ?? "the server did not say why"}.`));
        running.forget(process);
      } else if (process.id) {
        settle();
        fill(state);
        say(`${call.name} runs`);
        if (!signal.aborted) location.hash = `#/processes/${process.id}`;
      }
    });
  }

  function settle() {
    button.disabled = false;
    give_up.hidden = true;
  }

  return [
    h("p", { class: "back" }, h("a", { href: "#/calls" }, "All calls")),
    h("h1", { tabindex: "-1" }, call.name),
    call.description && h("p", { class: "lead" }, call.description),
    h(
      "p",
      { class: "aside" },
      "From the plugin ",
      h("strong", {}, call.plugin),
      " ",
      call.access === "public" ? badge("", "public") : badge("", `needs call:${call.name}`),
    ),
    element,
  ];
}
