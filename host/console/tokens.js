// The caller's own API tokens.

import { caller, get, post, remove } from "./api.js";
import { ask, copyButton, field, fill, h, notice, say } from "./dom.js";
import { moment } from "./text.js";

export async function show({ main, signal }) {
  const heading = h("h1", { tabindex: "-1" }, "Tokens");
  if (!caller.user) {
    return fill(
      main,
      heading,
      h(
        "p",
        { class: "empty" },
        "Tokens belong to users: ",
        h("a", { href: "#/login?to=%23/tokens" }, "log in"),
        " to see and make yours.",
      ),
    );
  }
  const list = h("div", { class: "wide" });
  const made = h("div", { role: "status" });
  const wrong = h("div");
  const draw = async () => {
    const tokens = await get("auth/tokens");
    if (!signal.aborted) fill(list, table(tokens, draw, wrong));
  };
  await draw();
  fill(
    main,
    heading,
    h(
      "p",
      { class: "lead" },
      "Programs show a token instead of logging in: ",
      h("code", {}, "Authorization: Bearer …"),
      ". A token may at most what you may.",
    ),
    made,
    wrong,
    list,
    creation(made, draw),
  );
}

function table(tokens, draw, wrong) {
  if (!tokens.length) return h("p", { class: "empty" }, "You have no tokens.");
  const revoke = async (token) => {
    const name = token.label || token.id;
    if (
      !(await ask("Revoke this token?", `Whoever uses ${JSON.stringify(name)} is turned away from then on.`, "Revoke"))
    )
      return;
    fill(wrong);
    try {
      await remove(`auth/tokens/${encodeURIComponent(token.id)}`);
      say(`Revoked ${name}`);
    } catch (error) {
      fill(wrong, notice("bad", `Not revoked: ${error.message}.`));
    }
    await draw();
    document.querySelector("#main h1")?.focus();
  };
  return h(
    "table",
    { class: "cards" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Label", "May", "Made", "Expires", "Last used"].map((it) => h("th", { scope: "col" }, it)),
        h("th", { scope: "col" }, h("span", { class: "away" }, "Revoke")),
      ),
    ),
    h(
      "tbody",
      {},
      tokens.map((token) =>
        h(
          "tr",
          {},
          h(
            "td",
            { "data-label": "Label" },
            h("strong", {}, token.label || "without a label"),
            h("br"),
            h("code", { class: "aside" }, token.id),
          ),
          h(
            "td",
            { "data-label": "May" },
            token.scopes.map((it) => h("code", { class: "scope" }, it)),
          ),
          h("td", { "data-label": "Made" }, moment(token.created)),
          h("td", { "data-label": "Expires" }, token.expires ? moment(token.expires) : "never"),
          h("td", { "data-label": "Last used" }, token.used ? moment(token.used) : "never"),
          h(
            "td",
            {},
            h(
              "button",
              {
                type: "button",
                class: "danger",
                "aria-label": `Revoke ${token.label || token.id}`,
                onclick: () => revoke(token),
              },
              "Revoke",
            ),
          ),
        ),
      ),
    ),
  );
}

function creation(made, draw) {
  const label = field("Label", h("input", { type: "text", maxlength: "200", autocomplete: "off" }), {
    hint: "What it is for.",
  });
  const scopes = field(
    "May",
    h("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" }),
    { hint: "Scopes with spaces between them, such as call:echo call:demo-*. Empty means all that you may." },
  );
  const expires = field(
    "Expires after",
    h("input", { type: "text", autocomplete: "off", value: "30d", spellcheck: "false" }),
    { hint: "30d or 12h, say. Empty means never." },
  );
  const wrong = h("div");
  const button = h("button", { class: "primary" }, "Make a token");
  return h(
    "form",
    {
      class: "card narrow",
      "aria-labelledby": "new-token",
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        fill(wrong);
        const words = scopes.input.value.split(/[\s,]+/).filter(Boolean);
        const wanted = { label: label.input.value.trim() };
        if (words.length) wanted.scopes = words;
        if (expires.input.value.trim()) wanted.expires = expires.input.value.trim();
        try {
          const token = await post("auth/tokens", wanted);
          await draw();
          const secret = h("code", { class: "secret", tabindex: "0" }, token.token);
          fill(
            made,
            h(
              "div",
              { class: "notice good" },
              h("p", {}, h("strong", {}, "This is the only time that the token is shown.")),
              h(
                "p",
                { class: "row" },
                secret,
                copyButton("Copy", () => token.token),
              ),
            ),
          );
          label.input.value = scopes.input.value = "";
          secret.focus();
        } catch (error) {
          fill(wrong, notice("bad", `Not made: ${error.message}.`));
        } finally {
          button.disabled = false;
        }
      },
    },
    h("h2", { id: "new-token" }, "A new token"),
    wrong,
    label.element,
    scopes.element,
    expires.element,
    h("p", { class: "row" }, button),
  );
}
