// Draws a screen on the page. Only visible rows are elements, however many lines there are. Knows the screen and the
// document, not processes.

import { colours, css } from "./colour.js";
import { h } from "./element.js";
import { columns } from "./line.js";
import { plural } from "./text.js";

/** @import { Line } from "./line.js" */
/** @import { Screen } from "./screen.js" */
/** @import { Style } from "./style.js" */
/** @typedef {{ version: number, columns: number, line: Line, element: HTMLElement }} Drawn */

// Rows that are drawn above and below the visible ones.
const OVERSCAN_ROWS = 8;
// Screen readers hear new lines at this interval, and no more than so many of them.
const ANNOUNCE_MS = 1000;
const ANNOUNCED_LINES = 8;

export class Terminal {
  #screen;
  #rows = h("div", { class: "rows" });
  #view = h("div", { class: "view", tabindex: "0", role: "region", "aria-label": "Output" }, this.#rows);
  #log = h("div", { class: "visually-hidden", role: "log", "aria-live": "polite" });
  #toEnd = h(
    "button",
    { type: "button", class: "to-end", hidden: true, onclick: () => this.scrollToEnd() },
    "Scroll to end",
  );
  element = h("div", { class: "screen" }, this.#view, this.#toEnd, this.#log);
  // The first row of each line, and behind them the number of all rows.
  #first = [0];
  #columns = 80;
  #height = 20;
  #measured = false;
  #dropped = 0;
  // Whether the view stays at the end when there is more output.
  #follows = true;
  /** @type {Map<number, Drawn>} */
  #drawn = new Map();
  // Lines that screen readers have heard, or that were there before.
  #announced = 0;
  #announceScheduled = false;
  #drawScheduled = false;

  /** @param {Screen} screen */
  constructor(screen) {
    this.#screen = screen;
    this.#announced = screen.dropped + screen.lines.length;
    this.#view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const resized = new ResizeObserver(() => {
      this.#measure();
      this.#draw();
    });
    resized.observe(this.#view);
    screen.changed = 0;
  }

  // Shows what has changed on the screen.
  update() {
    // Otherwise the first frame would have rows of a guessed width.
    if (!this.#measured) this.#measure();
    this.#layOut();
    this.#draw();
    this.#scheduleAnnouncement();
  }

  scrollToEnd() {
    this.#follows = true;
    this.#draw();
    this.#view.focus({ preventScroll: true });
  }

  focus() {
    this.#view.focus();
  }

  #measure() {
    const text = h("span", {}, "0".repeat(100));
    const probe = h("div", { class: "row-of-text" }, text);
    const line = h("div", { class: "line", "aria-hidden": "true" }, probe);
    this.#rows.append(line);
    const { width } = text.getBoundingClientRect();
    const { height } = probe.getBoundingClientRect();
    const room = this.#view.clientWidth - 2 * line.offsetLeft;
    line.remove();
    if (!width || !height) return;
    this.#columns = Math.max(10, Math.floor(room / (width / 100)));
    this.#height = height;
    this.#measured = true;
    this.#screen.changed = 0;
    this.#layOut();
  }

  // Computes the rows of all lines from the first one that has changed.
  #layOut() {
    const { lines, changed, dropped } = this.#screen;
    if (dropped > this.#dropped) {
      const gone = dropped - this.#dropped;
      // The visible rows stay where they are when lines above them are dropped.
      const rows = this.#first[Math.min(gone, this.#first.length - 1)];
      this.#dropped = dropped;
      this.#view.scrollTop -= rows * this.#height;
    }
    if (changed < lines.length || this.#first.length !== lines.length + 1) {
      const from = Math.min(changed, this.#first.length - 1);
      this.#first.length = from + 1;
      let row = this.#first[from];
      for (let at = from; at < lines.length; at += 1) {
        row += this.#rowCount(lines[at]);
        this.#first.push(row);
      }
    }
    this.#screen.changed = Infinity;
  }

  /** @param {Line} line */
  #rowCount(line) {
    return line.plain ? Math.max(1, Math.ceil(line.size / this.#columns)) : this.#cut(line).length;
  }

  /**
   * Returns the first and the last character of each row of a line.
   * @param {Line} line
   */
  #cut(line) {
    /** @type {[from: number, to: number][]} */
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

  get #total() {
    return this.#first[this.#first.length - 1];
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.#view;
    this.#follows = scrollTop + clientHeight >= scrollHeight - this.#height;
    if (this.#drawScheduled) return;
    this.#drawScheduled = true;
    requestAnimationFrame(() => {
      this.#drawScheduled = false;
      this.#draw();
    });
  }

  /**
   * Returns the line that a row belongs to.
   * @param {number} row
   */
  #lineAt(row) {
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
    this.#rows.style.height = `${this.#total * this.#height}px`;
    if (this.#follows) view.scrollTop = view.scrollHeight;
    this.#toEnd.hidden = this.#follows;
    const top = Math.max(0, Math.floor(view.scrollTop / this.#height) - OVERSCAN_ROWS);
    const bottom = Math.min(
      this.#total,
      Math.ceil((view.scrollTop + view.clientHeight) / this.#height) + OVERSCAN_ROWS,
    );
    const { lines, dropped } = this.#screen;
    /** @type {Map<number, Drawn>} */
    const wanted = new Map();
    /** @type {HTMLElement | null} */
    let after = null;
    for (let at = this.#lineAt(top); at < lines.length && this.#first[at] < bottom; at += 1) {
      const line = lines[at];
      const key = dropped + at;
      let drawn = this.#drawn.get(key);
      if (!drawn || drawn.version !== line.version || drawn.columns !== this.#columns || drawn.line !== line) {
        drawn?.element.remove();
        drawn = { version: line.version, columns: this.#columns, line, element: this.#element(line) };
      }
      drawn.element.style.top = `${this.#first[at] * this.#height}px`;
      // An element that is already in its place stays there, and keeps its selected text.
      /** @type {ChildNode | null} */
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

  /** @param {Line} line */
  #element(line) {
    const kind = line.spans.find(([, of]) => of.kind !== "out")?.[1].kind ?? "out";
    const element = h("div", { class: `line ${kind}` });
    const characters = line.plain ? [] : [...line.text];
    /** @type {(from: number, to: number) => string} */
    const part = (from, to) => (line.plain ? line.text.slice(from, to) : characters.slice(from, to).join(""));
    for (const [from, to] of this.#cut(line)) {
      const row = h("div", { class: "row-of-text" });
      let at = 0;
      for (const [size, of] of line.spans) {
        const [begins, ends] = [Math.max(at, from), Math.min(at + size, to)];
        if (begins < ends) row.append(styled(part(begins, ends), of));
        at += size;
        if (at >= to) break;
      }
      element.append(row);
    }
    return element;
  }

  // Puts new lines into the log, which screen readers read out.
  #scheduleAnnouncement() {
    if (this.#announceScheduled) return;
    this.#announceScheduled = true;
    setTimeout(() => {
      this.#announceScheduled = false;
      const { lines, dropped } = this.#screen;
      // The last line can still grow.
      const end = lines[lines.length - 1].size ? lines.length : lines.length - 1;
      const added = lines.slice(Math.max(0, this.#announced - dropped - 1), end);
      this.#announced = dropped + end + 1;
      const shown = added.slice(-ANNOUNCED_LINES).map((line) => h("p", {}, line.text));
      const skipped = added.length - shown.length;
      if (skipped > 0) shown.unshift(h("p", {}, `${plural(skipped, "more line")} before:`));
      if (shown.length) this.#log.replaceChildren(...shown);
    }, ANNOUNCE_MS);
  }
}

/**
 * @param {string} text
 * @param {Style} style
 */
function styled(text, style) {
  const { kind, fg, bg, bold, dim, italic, underline, strike, inverse, hidden } = style;
  if (
    kind === "out" &&
    fg === null &&
    bg === null &&
    !(bold || dim || italic || underline || strike || inverse || hidden)
  )
    return text;
  const [front, back] = colours(style);
  const names = Object.entries({ bold, italic, underline, strike })
    .filter(([, on]) => on)
    .map(([name]) => name);
  const span = h("span", { class: names.length ? names.join(" ") : undefined }, text);
  span.style.color = css(front);
  if (back) span.style.backgroundColor = css(back);
  return span;
}
