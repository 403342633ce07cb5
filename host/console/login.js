// The page to log in at.

import { caller, logIn } from "./api.js";
import { field, fill, h, say } from "./dom.js";

export async function show({ main, at }) {
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
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
  const button = h("button", { class: "primary" }, "Log in");
  const form = h(
    "form",
    {
      class: "narrow card",
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        wrong.hidden = true;
        try {
          await logIn(user.input.value, password.input.value);
          say(`Logged in as ${caller.user}`);
          location.hash = at.query.get("to") ?? "#/";
        } catch (error) {
          wrong.textContent = `${error.message}.`;
          wrong.hidden = false;
          password.input.value = "";
          password.input.focus();
        } finally {
          button.disabled = false;
        }
      },
    },
    wrong,
    user.element,
    password.element,
    h("p", { class: "row" }, button),
  );
  fill(
    main,
    h("h1", { tabindex: "-1" }, "Log in"),
    caller.user && h("p", {}, "You are logged in as ", h("strong", {}, caller.user), "."),
    form,
    h(
      "p",
      { class: "hint narrow" },
      "Whoever runs the server makes users with ",
      h("code", {}, "distillery user add"),
      ".",
    ),
  );
  user.input.focus();
}
