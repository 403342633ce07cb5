// The login page.

import { caller, logIn, messageOf } from "./api.js";
import { announce, field, notice } from "./dom.js";
import { fill, h } from "./element.js";

/** @import { Page } from "./console.js" */

/** Returns the address of this page, which returns to the present one. */
export function loginHere() {
  const here = location.hash;
  return here.startsWith("#/login") || here.length < 3 ? "#/login" : `#/login?to=${encodeURIComponent(here)}`;
}

/** @param {Page} page */
export async function show({ main, route }) {
  const user = field(
    "User",
    h("input", {
      type: "text",
      name: "user",
      autocomplete: "username",
      autocapitalize: "off",
      spellcheck: "false",
      required: true,
    }),
  );
  const password = field(
    "Password",
    h("input", { type: "password", name: "password", autocomplete: "current-password", required: true }),
  );
  const error = h("p", { class: "notice bad", role: "alert", hidden: true });
  const button = h("button", { class: "primary" }, "Log in");
  /** @param {SubmitEvent} event */
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    error.hidden = true;
    try {
      await logIn(user.input.value, password.input.value);
      announce(`Logged in as ${caller.user}`);
      location.hash = route.query.get("to") ?? "#/";
    } catch (failure) {
      error.textContent = `${messageOf(failure)}.`;
      error.hidden = false;
      password.input.value = "";
      password.input.focus();
    } finally {
      button.disabled = false;
    }
  };
  const form = h(
    "form",
    { class: "narrow card", onsubmit: submit },
    error,
    user.element,
    password.element,
    h("p", { class: "row" }, button),
  );
  const hint = ["The operator creates users with ", h("code", {}, "distillery user add"), "."];
  fill(
    main,
    h("h1", { tabindex: "-1" }, "Log in"),
    route.query.has("ended") && notice("", "Your session has ended. Log in again to go on where you were."),
    caller.user && h("p", {}, "You are logged in as ", h("strong", {}, caller.user), "."),
    form,
    h("p", { class: "hint narrow" }, hint),
  );
  user.input.focus();
}
