// The first page: the public systems and the news.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { day, many } from "./text.js";

export async function show({ main, signal }) {
  const [systems, news] = await Promise.all([get("systems"), get("news")]);
  if (signal.aborted) return;
  fill(
    main,
    h("h1", { tabindex: "-1" }, "Overview"),
    h(
      "section",
      { "aria-labelledby": "systems" },
      h("h2", { id: "systems" }, "Systems"),
      systems.length
        ? h("ul", { class: "grid" }, systems.map(system))
        : h("p", { class: "empty" }, "There are no public systems yet."),
    ),
    h(
      "section",
      { "aria-labelledby": "news" },
      h("h2", { id: "news" }, "News"),
      news.length ? news.map(item) : h("p", { class: "empty" }, "There is no news yet."),
    ),
  );
}

function system({ Slug, URL: url, Tagline, EntityCount, BundleCount, LastEdit }) {
  return h(
    "li",
    { class: "card" },
    h("h3", {}, h("a", { href: safe(url), rel: "noopener noreferrer" }, Slug)),
    Tagline && h("p", {}, Tagline),
    h(
      "p",
      { class: "aside" },
      [many(EntityCount, "entity", "entities"), many(BundleCount, "bundle"), LastEdit && `edited ${day(LastEdit)}`]
        .filter(Boolean)
        .join(" · "),
    ),
  );
}

function item({ Date: date, Title, Content }) {
  return h(
    "article",
    { class: "news" },
    h("h3", {}, Title),
    h("p", { class: "aside" }, h("time", { datetime: date }, day(date))),
    h("div", { class: "prose" }, prose(Content)),
  );
}

function safe(url) {
  return /^https?:/i.test(url) ? url : undefined;
}

const policy = globalThis.trustedTypes?.createPolicy("news", { createHTML: (text) => text }) ?? {
  createHTML: (text) => text,
};
const TEXT = new Set(
  "A B BLOCKQUOTE BR CODE DD DEL DL DT EM H3 H4 H5 H6 HR I KBD LI OL P PRE S STRONG SUB SUP TABLE TBODY TD TH THEAD TR U UL".split(
    " ",
  ),
);
// A news item has its own title above these.
const LOWER = { H1: "h4", H2: "h4", H3: "h5", H4: "h6", H5: "h6", H6: "h6" };

// The HTML of the server, which has cleaned it already, taken over element by element: what is not text is left out.
function prose(html) {
  const read = new DOMParser().parseFromString(policy.createHTML(html), "text/html");
  return [...read.body.childNodes].map(taken);
}

function taken(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  if (node.tagName === "IMG") return image(node);
  const children = [...node.childNodes].map(taken);
  if (node.tagName in LOWER) return h(LOWER[node.tagName], {}, children);
  if (!TEXT.has(node.tagName)) return children;
  if (node.tagName === "A")
    return h("a", { href: safe(node.getAttribute("href") ?? ""), rel: "noopener noreferrer" }, children);
  const wide = node.tagName === "PRE" || node.tagName === "TABLE";
  const element = h(node.tagName.toLowerCase(), {}, children);
  // What may be wider than the page is scrolled, also by keys.
  return wide
    ? h(
        "div",
        { class: "wide", tabindex: "0", role: "group", "aria-label": node.tagName === "PRE" ? "Code" : "Table" },
        element,
      )
    : element;
}

// Pictures of other servers would tell them who reads the console.
function image(node) {
  return h(
    "a",
    { href: safe(node.getAttribute("src") ?? ""), rel: "noopener noreferrer" },
    `Picture: ${node.getAttribute("alt") || "without a description"}`,
  );
}
