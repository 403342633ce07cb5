// A screen on the page: only the rows that can be seen are elements, however many lines there are. It knows the lines of
// `screen.js` and the document, and nothing of processes.

import { colours, css } from "./colour.js";
import { h } from "./dom.js";
import { columns } from "./screen.js";
import { many } from "./text.js";

// Rows that are drawn above and below what can be seen.
const AROUND = 8;
// How often somebody who hears the page is told what is new, and of how many lines.
const TOLD_MS = 1000;
const TOLD_LINES = 8;

export class Terminal {
  #screen;
  #rows = h("div", { class: "rows" });
  #view = h("div", { class: "view", tabindex: "0", role: "region", "aria-label": "Output" }, this.#rows);
  #heard = h("div", { class: "away", role: "log", "aria-live": "polite" });
  #end = h("button", { type: "button", class: "to-end", hidden: true, onclick: () => this.toEnd() }, "To the end");
  element = h("div", { class: "screen" }, this.#view, this.#end, this.#heard);
  // Of each line the first row; and behind them how many rows there are in all.
  #first = [0];
  #columns = 80;
  #height = 20;
  #dropped = 0;
  #follows = true;
  #drawn = new Map();
  #told = 0;
  #telling = false;
  #later = false;

  constructor(screen) {
    this.#screen = screen;
    this.#told = screen.dropped + screen.lines.length;
    this.#view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const resized = new ResizeObserver(() => {
      this.#measure();
      this.#draw();
    });
    resized.observe(this.#view);
    screen.changed = 0;
  }

  // What has changed on the screen is shown.
  update() {
    this.#lay();
    this.#draw();
    this.#tell();
  }

  toEnd() {
    this.#follows = true;
    this.#draw();
    this.#view.focus({ preventScroll: true });
  }

  focus() {
    this.#view.focus();
  }

  #measure() {
    const probe = h("div", { class: "row-of-text" }, h("span", {}, "0".repeat(100)));
    const line = h("div", { class: "line", "aria-hidden": "true" }, probe);
    this.#rows.append(line);
    const { width } = probe.firstChild.getBoundingClientRect();
    const { height } = probe.getBoundingClientRect();
    const room = this.#view.clientWidth - 2 * line.offsetLeft;
    line.remove();
    if (!width || !height) return;
    this.#columns = Math.max(10, Math.floor(room / (width / 100)));
    this.#height = height;
    this.#screen.changed = 0;
    this.#lay();
  }

  // Finds out anew where the lines are, from the first one that has changed.
  #lay() {
    const { lines, changed, dropped } = this.#screen;
    if (dropped > this.#dropped) {
      const gone = dropped - this.#dropped;
      const rows = this.#first[Math.min(gone, this.#first.length - 1)];
      this.#dropped = dropped;
      this.#view.scrollTop -= rows * this.#height;
    }
    if (changed < lines.length || this.#first.length !== lines.length + 1) {
      const from = Math.min(changed, this.#first.length - 1);
      this.#first.length = from + 1;
      let row = this.#first[from];
      for (let at = from; at < lines.length; at += 1) {
        row += this.#height_of(lines[at]);
        this.#first.push(row);
      }
    }
    this.#screen.changed = Infinity;
  }

  #height_of(line) {
    return line.plain ? Math.max(1, Math.ceil(line.size / this.#columns)) : this.#cut(line).length;
  }

  // Where the rows of a line begin and end, in characters. Wide ones take two columns.
  #cut(line) {
    const cuts = [];
    if (line.plain) {
      for (let at = 0; at === 0 || at < line.size; at += this.#columns)
        cuts.push([at, Math.min(line.size, at + this.#columns)]);
      return cuts;
    }
    let [from, at, used] = [0, 0, 0];
    for (const character of line.text) {
      const width = columns(character);
      if (used + width > this.#columns) {
        cuts.push([from, at]);
        from = at;
        used = 0;
      }
      used += width;
      at += 1;
    }
    cuts.push([from, at]);
    return cuts;
  }

  #total() {
    return this.#first.at(-1);
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.#view;
    this.#follows = scrollTop + clientHeight >= scrollHeight - this.#height;
    if (this.#later) return;
    this.#later = true;
    requestAnimationFrame(() => {
      this.#later = false;
      this.#draw();
    });
  }

  // The line that a row belongs to.
  #line_at(row) {
    let [low, high] = [0, this.#first.length - 2];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#first[middle] <= row) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #draw() {
    const view = this.#view;
    this.#rows.style.height = `${this.#total() * this.#height}px`;
    if (this.#follows) view.scrollTop = view.scrollHeight;
    this.#end.hidden = this.#follows;
    const top = Math.max(0, Math.floor(view.scrollTop / this.#height) - AROUND);
    const bottom = Math.min(this.#total(), Math.ceil((view.scrollTop + view.clientHeight) / this.#height) + AROUND);
    const { lines, dropped } = this.#screen;
    const wanted = new Map();
    let after = null;
    for (let at = this.#line_at(top); at < lines.length && this.#first[at] < bottom; at += 1) {
      const line = lines[at];
      const key = dropped + at;
      let drawn = this.#drawn.get(key);
      if (!drawn || drawn.version !== line.version || drawn.columns !== this.#columns || drawn.line !== line) {
        drawn?.element.remove();
        drawn = { version: line.version, columns: this.#columns, line, element: this.#element(line) };
      }
      drawn.element.style.top = `${this.#first[at] * this.#height}px`;
      // Those that are there already stay as they are, and with them what is selected.
      const next = after ? after.nextSibling : this.#rows.firstChild;
      if (next !== drawn.element) this.#rows.insertBefore(drawn.element, next);
      after = drawn.element;
      wanted.set(key, drawn);
    }
    for (const [key, { element }] of this.#drawn) {
      if (wanted.get(key)?.element !== element) element.remove();
    }
    this.#drawn = wanted;
  }

  #element(line) {
    const kind = line.spans.find(([, of]) => of.kind !== "out")?.[1].kind ?? "out";
    const element = h("div", { class: `line ${kind}` });
    const characters = line.plain ? line.text : [...line.text];
    const part = (from, to) => (line.plain ? characters.slice(from, to) : characters.slice(from, to).join(""));
    for (const [from, to] of this.#cut(line)) {
      const row = h("div", { class: "row-of-text" });
      let at = 0;
      for (const [size, of] of line.spans) {
        const [begins, ends] = [Math.max(at, from), Math.min(at + size, to)];
        if (begins < ends) row.append(run(part(begins, ends), of));
        at += size;
        if (at >= to) break;
      }
      element.append(row);
    }
    return element;
  }

  // The same for those who hear the page, and never faster than it can be said.
  #tell() {
    if (this.#telling) return;
    this.#telling = true;
    setTimeout(() => {
      this.#telling = false;
      const { lines, dropped } = this.#screen;
      const last = lines.at(-1).size ? lines.length : lines.length - 1;
      const news = lines.slice(Math.max(0, this.#told - dropped - 1), last);
      this.#told = dropped + last + 1;
      const heard = news.slice(-TOLD_LINES).map((line) => h("p", {}, line.text));
      if (news.length > heard.length) heard.unshift(h("p", {}, `${many(news.length - heard.length, "line")} before:`));
      if (heard.length) this.#heard.replaceChildren(...heard);
    }, TOLD_MS);
  }
}

function run(text, style) {
  const { kind, fg, bg, bold, dim, italic, underline, strike, inverse, hidden } = style;
  if (
    kind === "out" &&
    fg === null &&
    bg === null &&
    !(bold || dim || italic || underline || strike || inverse || hidden)
  )
    return text;
  const [ink, paper] = colours(style);
  const names = Object.entries({ bold, italic, underline, strike })
    .filter(([, on]) => on)
    .map(([name]) => name);
  const span = h("span", { class: names.length ? names.join(" ") : undefined }, text);
  span.style.color = css(ink);
  if (paper) span.style.backgroundColor = css(paper);
  return span;
}
