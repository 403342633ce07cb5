// The caller's API tokens.

import { caller, get, messageOf, post, remove } from "./api.js";
import { announce, cell, confirm, field, notice, tableHead } from "./dom.js";
import { copyButton, fill, h } from "./element.js";
import { dateTime } from "./text.js";

/** @import { Token } from "./api.js" */
/** @import { Page } from "./console.js" */

/** @param {Page} page */
export async function show({ main, signal }) {
  const heading = h("h1", { tabindex: "-1" }, "Tokens");
  if (!caller.user) {
    const login = h("a", { href: "#/login?to=%23/tokens" }, "Log in");
    return fill(
      main,
      heading,
      h("p", { class: "empty" }, "Tokens belong to users. ", login, " to see and create yours."),
    );
  }
  const list = h("div", { class: "wide" });
  const created = h("div", { role: "status" });
  const error = h("div");
  const draw = async () => {
    const tokens = await get("auth/tokens");
    if (!signal.aborted) fill(list, table(tokens, draw, error));
  };
  await draw();
  const lead = [
    "Programs send a token instead of logging in: ",
    h("code", {}, "Authorization: Bearer …"),
    ". A token never grants more than its user has.",
  ];
  fill(main, heading, h("p", { class: "lead" }, lead), created, error, list, createForm(created, draw));
}

/**
 * @param {Token[]} tokens
 * @param {() => Promise<void>} draw
 * @param {HTMLElement} error
 */
function table(tokens, draw, error) {
  if (!tokens.length) return h("p", { class: "empty" }, "You have no tokens.");
  /** @param {Token} token */
  const revoke = async ({ id, label }) => {
    const name = label || id;
    const text = `Programs that use ${JSON.stringify(name)} are refused from then on.`;
    if (!(await confirm("Revoke this token?", text, "Revoke"))) return;
    fill(error);
    try {
      await remove(`auth/tokens/${encodeURIComponent(id)}`);
      announce(`Revoked ${name}`);
    } catch (failure) {
      fill(error, notice("bad", `Could not revoke the token: ${messageOf(failure)}.`));
    }
    await draw();
    /** @type {HTMLElement | null} */ (document.querySelector("#main h1"))?.focus();
  };
  /** @param {Token} token */
  const row = (token) => {
    const label = `Revoke ${token.label || token.id}`;
    const button = { type: "button", class: "danger", "aria-label": label, onclick: () => revoke(token) };
    return h(
      "tr",
      {},
      cell("Label", h("strong", {}, token.label || "no label"), h("br"), h("code", { class: "aside" }, token.id)),
      cell(
        "Scopes",
        token.scopes.map((it) => h("code", { class: "scope" }, it)),
      ),
      cell("Created", dateTime(token.created)),
      cell("Expires", token.expires ? dateTime(token.expires) : "never"),
      cell("Last used", token.used ? dateTime(token.used) : "never"),
      h("td", {}, h("button", button, "Revoke")),
    );
  };
  const columns = [
    "Label",
    "Scopes",
    "Created",
    "Expires",
    "Last used",
    h("span", { class: "visually-hidden" }, "Revoke"),
  ];
  return h("table", { class: "cards" }, tableHead(columns), h("tbody", {}, tokens.map(row)));
}

const WORD = { type: "text", autocomplete: "off", spellcheck: "false" };

/**
 * @param {HTMLElement} created shows the new token
 * @param {() => Promise<void>} draw
 */
function createForm(created, draw) {
  const label = field("Label", h("input", { ...WORD, maxlength: "200" }), { hint: "What the token is for." });
  const scopes = field("Scopes", h("input", { ...WORD, autocapitalize: "off" }), {
    hint: "Separated by spaces, such as call:echo call:demo-*. Empty: all scopes that you have.",
  });
  const expires = field("Expires after", h("input", { ...WORD, value: "30d" }), {
    hint: "For example 30d or 12h. Empty: never.",
  });
  const error = h("div");
  const button = h("button", { class: "primary" }, "Create token");
  /** @param {SubmitEvent} event */
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    fill(error);
    const words = scopes.input.value.split(/[\s,]+/).filter(Boolean);
    const wanted = {
      label: label.input.value.trim(),
      scopes: words.length ? words : undefined,
      expires: expires.input.value.trim() || undefined,
    };
    try {
      const { token } = await post("auth/tokens", wanted);
      await draw();
      const secret = h("code", { class: "secret", tabindex: "0" }, token);
      const copy = copyButton("Copy", () => token, announce);
      const warning = h("strong", {}, "Copy the token now: it is shown only once.");
      fill(created, h("div", { class: "notice good" }, h("p", {}, warning), h("p", { class: "row" }, secret, copy)));
      label.input.value = scopes.input.value = "";
      secret.focus();
    } catch (failure) {
      fill(error, notice("bad", `Could not create the token: ${messageOf(failure)}.`));
    } finally {
      button.disabled = false;
    }
  };
  return h(
    "form",
    { class: "card narrow", "aria-labelledby": "new-token", onsubmit: submit },
    h("h2", { id: "new-token" }, "New token"),
    error,
    label.element,
    scopes.element,
    expires.element,
    h("p", { class: "row" }, button),
  );
}
