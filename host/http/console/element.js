// Builds elements of the document. Shared by the console and the page of the API's documents.

/**
 * What an element can contain. Falsy values are left out, so that `condition && element` works.
 * @typedef {Node | string | number | false | null | undefined} Item
 * @typedef {Item | Item[] | Content[]} Content
 *
 * Attributes by name. `onclick` and the like add a listener; `true` sets an attribute without a value.
 * @typedef {{
 *   [name: string]: unknown,
 *   onclick?: (event: MouseEvent) => void,
 *   onsubmit?: (event: SubmitEvent) => void,
 *   onchange?: (event: Event) => void,
 * }} Attributes
 */

// Set as properties: as attributes they only have an effect before the first use.
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "indeterminate"]);

/**
 * Makes an element: `h("p", {class: "x", onclick: f}, "text", element, [more])`. Strings become text, never HTML.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} name
 * @param {Attributes} [attributes]
 * @param {...Content} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else if (PROPERTIES.has(key)) Object.assign(element, { [key]: value });
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/**
 * Replaces the content of an element.
 * @param {Element} element
 * @param {...Content} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/**
 * @param {Content[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
  const flat = /** @type {Item[]} */ (/** @type {unknown[]} */ (children).flat(Infinity));
  const shown = flat.filter((child) => child !== undefined && child !== null && child !== false);
  return shown.map((child) => (child instanceof Node ? child : String(child)));
}

/**
 * Makes a button that copies a text and then says so for two seconds.
 * @param {string} label
 * @param {() => string} content
 * @param {(result: string) => void} [announce] tells those who cannot see the button
 */
export function copyButton(label, content, announce = () => {}) {
  const copy = async () => {
    const copied = navigator.clipboard?.writeText(content()) ?? Promise.reject();
    const result = await copied.then(
      () => "Copied",
      () => "Could not copy: select the text instead",
    );
    button.textContent = result;
    announce(result);
    setTimeout(() => {
      button.textContent = label;
    }, 2000);
  };
  const button = h("button", { type: "button", onclick: copy }, label);
  return button;
}
