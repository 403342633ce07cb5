// The first page: the public systems and the news.

import { get } from "./api.js";
import { fill, h } from "./element.js";
import { day, plural } from "./text.js";

/** @import { News, System } from "./api.js" */
/** @import { Page } from "./console.js" */
/** @import { Content } from "./element.js" */

/** @param {Page} page */
export async function show({ main, signal }) {
  /** @type {[System[], News[]]} */
  const [systems, news] = await Promise.all([get("systems"), get("news")]);
  if (signal.aborted) return;
  const noSystems = h("p", { class: "empty" }, "There are no public systems yet.");
  const noNews = h("p", { class: "empty" }, "There is no news yet.");
  fill(
    main,
    h("h1", { tabindex: "-1" }, "Overview"),
    section("systems", "Systems", systems.length ? h("ul", { class: "grid" }, systems.map(systemCard)) : noSystems),
    section("news", "News", news.length ? news.map(article) : noNews),
  );
}

/**
 * @param {string} id
 * @param {string} title
 * @param {Content} content
 */
function section(id, title, content) {
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), content);
}

/** @param {System} system */
function systemCard({ Slug, URL: url, Tagline, EntityCount, BundleCount, LastEdit }) {
  const counts = [plural(EntityCount, "entity", "entities"), plural(BundleCount, "bundle")];
  if (LastEdit) counts.push(`edited ${day(LastEdit)}`);
  return h(
    "li",
    { class: "card" },
    h("h3", {}, h("a", { href: safe(url), rel: "noopener noreferrer" }, Slug)),
    Tagline && h("p", {}, Tagline),
    h("p", { class: "aside" }, counts.join(" · ")),
  );
}

/** @param {News} news */
function article({ Date: date, Title, Content }) {
  return h(
    "article",
    { class: "news" },
    h("h3", {}, Title),
    h("p", { class: "aside" }, h("time", { datetime: date }, day(date))),
    h("div", { class: "prose" }, prose(Content)),
  );
}

/**
 * Returns a web address unchanged; undefined for any other kind of address.
 * @param {string | null} url
 */
function safe(url) {
  return url && /^https?:/i.test(url) ? url : undefined;
}

/** @typedef {{ createPolicy(name: string, rules: { createHTML: (text: string) => string }): HtmlPolicy }} TrustedTypes */
/** @typedef {{ createHTML: (text: string) => string }} HtmlPolicy */

const { trustedTypes } = /** @type {{ trustedTypes?: TrustedTypes }} */ (/** @type {unknown} */ (globalThis));
/** @type {HtmlPolicy} */
const unchanged = { createHTML: (text) => text };
const policy = trustedTypes?.createPolicy("news", unchanged) ?? unchanged;

// prettier-ignore
const ALLOWED = new Set([
  "a", "b", "blockquote", "br", "code", "dd", "del", "dl", "dt", "em", "h3", "h4", "h5", "h6", "hr", "i", "kbd", "li", "ol", "p",
  "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
]);
/**
 * Headings of a news item, which stand below its own title.
 * @type {Record<string, "h4" | "h5" | "h6" | undefined>}
 */
const HEADINGS = { h1: "h4", h2: "h4", h3: "h5", h4: "h6", h5: "h6", h6: "h6" };

/**
 * Copies HTML that the server has sanitized, element by element. Only text elements are kept.
 * @param {string} html
 */
function prose(html) {
  const parsed = new DOMParser().parseFromString(policy.createHTML(html), "text/html");
  return [...parsed.body.childNodes].map(copy);
}

/**
 * @param {Node} node
 * @returns {Content}
 */
function copy(node) {
  if (node instanceof Text) return node.data;
  if (!(node instanceof Element)) return null;
  const name = node.tagName.toLowerCase();
  if (name === "img") return image(node);
  const children = [...node.childNodes].map(copy);
  const heading = HEADINGS[name];
  if (heading) return h(heading, {}, children);
  if (!ALLOWED.has(name)) return children;
  if (name === "a") return h("a", { href: safe(node.getAttribute("href")), rel: "noopener noreferrer" }, children);
  const element = h(/** @type {keyof HTMLElementTagNameMap} */ (name), {}, children);
  if (name !== "pre" && name !== "table") return element;
  // Can be wider than the page: scrolls, also by keyboard.
  const label = name === "pre" ? "Code" : "Table";
  return h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": label }, element);
}

/**
 * A link in place of an image, which would tell another server about the reader.
 * @param {Element} node
 */
function image(node) {
  const label = `Image: ${node.getAttribute("alt") || "no description"}`;
  return h("a", { href: safe(node.getAttribute("src")), rel: "noopener noreferrer" }, label);
}
