// Elements, made and shown. It knows the document, and nothing of what is shown in it.

// An element: `h("p", {class: "x", onclick: f}, "text", element, [more])`. Text is only ever text.
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in PROPERTIES) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

// What has an effect after the first moment only as a property.
const PROPERTIES = { value: 1, checked: 1, disabled: 1, hidden: 1, indeterminate: 1 };

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child);
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

let ids = 0;

// A name for an element that another refers to.
export function newId(what) {
  return `${what}-${++ids}`;
}

// Says it to who hears the page rather than sees it.
export function say(text) {
  document.getElementById("said").textContent = text;
}

export function notice(kind, ...content) {
  return h("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : undefined }, ...content);
}

export function badge(kind, text) {
  return h("span", { class: `badge ${kind}` }, text);
}

// A field with its label, what it is for, and what is wrong with it.
export function field(label, input, { hint, more } = {}) {
  const id = newId("field");
  input.id = id;
  const error = h("p", { class: "error", id: `${id}-error`, hidden: true });
  const described = [hint && `${id}-hint`].filter(Boolean);
  const describe = () => {
    const all = error.hidden ? described : [...described, error.id];
    if (all.length) input.setAttribute("aria-describedby", all.join(" "));
    else input.removeAttribute("aria-describedby");
  };
  describe();
  const element = h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
    more ? h("div", { class: "beside" }, input, more) : input,
    error,
  );
  const complain = (what) => {
    error.textContent = what ?? "";
    error.hidden = !what;
    if (what) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    describe();
  };
  input.addEventListener("input", () => complain());
  return { element, input, complain };
}

// Asks before something is done that cannot be taken back by a click. Resolves to whether to do it.
export function ask(title, text, yes) {
  const heading = newId("ask");
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": heading },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: heading }, title),
        h("p", {}, text),
        h(
          "div",
          { class: "row end" },
          h("button", { value: "no", autofocus: true }, "Leave it"),
          h("button", { value: "yes", class: "danger" }, yes),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Something to take along. The button says that it was copied, as nothing else on the page would.
export function copyButton(label, content, attributes = {}) {
  const button = h(
    "button",
    {
      type: "button",
      ...attributes,
      onclick: async () => {
        const done = await navigator.clipboard.writeText(content()).then(
          () => "Copied",
          () => "Not copied: select it instead",
        );
        button.textContent = done;
        say(done);
        setTimeout(() => {
          button.textContent = label;
        }, 2000);
      },
    },
    label,
  );
  return button;
}
