// The processes that run and that have run, as far as the caller may see them.

import { caller, get, may } from "./api.js";
import { badge, fill, h } from "./dom.js";
import { OUTCOMES } from "./process.js";
import * as running from "./running.js";
import { bytes, duration, moment, param } from "./text.js";

const PAGE = 25;
// How often the newest are asked for while somebody looks at them.
const LOOK_MS = 3000;

export async function show({ main, at, signal }) {
  const heading = h("h1", { tabindex: "-1" }, "Processes");
  const mine = running.list().filter((it) => it.id);
  if (!caller.user && !may("processes:*")) {
    return fill(
      main,
      heading,
      mine.length ? own(mine) : null,
      h(
        "p",
        { class: "empty" },
        mine.length ? "These are the processes of this page. " : "Processes belong to users. ",
        h("a", { href: "#/login?to=%23/processes" }, "Log in"),
        " to see those that you ran, now and before.",
      ),
    );
  }
  const everybody = may("processes:*");
  const { query } = at;
  const go = (changes) => {
    const next = new URLSearchParams(query);
    for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
    location.hash = `#/processes${next.size ? `?${next}` : ""}`;
  };
  const text = (name, label) =>
    h(
      "label",
      {},
      h("span", {}, label),
      h("input", {
        type: "search",
        name,
        value: query.get(name) ?? "",
        autocomplete: "off",
        spellcheck: "false",
        "data-filter": true,
      }),
    );
  const outcome = h(
    "select",
    { name: "outcome" },
    h("option", { value: "" }, "any"),
    Object.keys(OUTCOMES).map((it) => h("option", { value: it }, it)),
  );
  outcome.value = query.get("outcome") ?? "";
  const filters = h(
    "form",
    {
      class: "filters",
      role: "search",
      "aria-label": "Filter processes",
      onsubmit: (event) => {
        event.preventDefault();
        go({ ...Object.fromEntries(new FormData(filters)), before: null });
      },
      onchange: () => filters.requestSubmit(),
    },
    text("call", "Call"),
    everybody && text("user", "User"),
    h("label", {}, h("span", {}, "Outcome"), outcome),
    h("button", {}, "Filter"),
  );
  const table = h("div", { class: "wide" });
  const pages = h("nav", { class: "row", "aria-label": "Pages of processes" });
  const asked = new URLSearchParams([...query].filter(([, value]) => value));
  asked.set("limit", PAGE + 1);

  let before = null;
  const look = async () => {
    const found = await get(`processes?${asked}`);
    if (signal.aborted) return;
    const text = JSON.stringify(found);
    // Nothing moves under the pointer where nothing has changed.
    if (text === before && !found.some((it) => it.outcome === "running")) return;
    before = text;
    const shown = found.slice(0, PAGE);
    const focused = document.activeElement?.closest?.("[data-id]")?.dataset.id;
    fill(
      table,
      shown.length
        ? rows(shown, everybody)
        : h("p", { class: "empty" }, query.size ? "No process is like that." : "No process has run yet."),
    );
    if (focused) table.querySelector(`[data-id="${CSS.escape(focused)}"] a`)?.focus();
    fill(
      pages,
      query.has("before") && h("button", { type: "button", onclick: () => go({ before: null }) }, "Newest"),
      found.length > PAGE && h("button", { type: "button", onclick: () => go({ before: shown.at(-1).id }) }, "Older"),
    );
  };
  fill(main, heading, filters, table, pages);
  await look();
  if (query.has("before")) return;
  const timer = setInterval(() => {
    if (!document.hidden) look().catch(() => {});
  }, LOOK_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function rows(processes, everybody) {
  return h(
    "table",
    { class: "cards" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Call", "Outcome", everybody && "User", "Started", "Took", "CPU", "Memory"]
          .filter(Boolean)
          .map((it) => h("th", { scope: "col" }, it)),
      ),
    ),
    h(
      "tbody",
      {},
      processes.map((it) => {
        const [kind, text] = OUTCOMES[it.outcome] ?? ["", it.outcome];
        const took =
          it.ended || it.outcome === "running"
            ? duration((it.ended ? Date.parse(it.ended) : Date.now()) - Date.parse(it.started))
            : "";
        return h(
          "tr",
          { "data-id": it.id },
          h(
            "td",
            { "data-label": "Call" },
            h("a", { href: `#/processes/${it.id}` }, h("strong", {}, it.call)),
            it.params.length > 0 && h("code", { class: "params" }, it.params.map(param).join(" ")),
          ),
          h(
            "td",
            { "data-label": "Outcome" },
            badge(kind, text),
            it.message && h("span", { class: "aside message" }, it.message),
          ),
          everybody && h("td", { "data-label": "User" }, it.user || h("span", { class: "aside" }, "nobody")),
          h("td", { "data-label": "Started" }, h("time", { datetime: it.started }, moment(it.started))),
          h("td", { "data-label": "Took", class: "number" }, took),
          h("td", { "data-label": "CPU", class: "number" }, duration(it.cpu_ms)),
          h("td", { "data-label": "Memory", class: "number" }, bytes(it.memory)),
        );
      }),
    ),
  );
}

// Those that this page talks to, for who has no history.
function own(processes) {
  return h(
    "ul",
    { class: "list" },
    processes.map((it) =>
      h(
        "li",
        {},
        h(
          "a",
          { href: `#/processes/${it.id}` },
          h("strong", {}, it.call ?? it.id),
          h(
            "span",
            {},
            it.outcome ? (it.outcome.success ? "success" : (it.outcome.message ?? it.outcome.kind)) : it.state,
          ),
        ),
      ),
    ),
  );
}
