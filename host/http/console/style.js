// How a terminal styles text: the style of a stream, and the sequences that change it.

/**
 * Where text comes from: stdout, stderr, the user, or the console itself.
 * @typedef {"out" | "err" | "in" | "note"} Kind
 * @typedef {number | number[]} Colour one of the 256, or red, green and blue
 * @typedef {{
 *   kind: Kind, fg: Colour | null, bg: Colour | null, bold?: boolean, dim?: boolean, italic?: boolean,
 *   underline?: boolean, strike?: boolean, inverse?: boolean, hidden?: boolean,
 * }} Style
 */

const MAX_STYLES = 10_000;

/** @type {Map<string, Style>} */
const styles = new Map();

/**
 * Returns the one object for a style, so that equal styles are identical.
 * @param {Style} wanted
 * @returns {Style}
 */
function style(wanted) {
  const key = JSON.stringify(wanted);
  let known = styles.get(key);
  if (!known) {
    // Truecolour makes new styles without end. Lines keep those that they use.
    if (styles.size > MAX_STYLES) styles.clear();
    known = Object.freeze({ ...wanted });
    styles.set(key, known);
  }
  return known;
}

/** @param {Kind} kind */
export const bare = (kind) => style({ kind, fg: null, bg: null });

// The style in which a stream writes, and its incomplete sequence.
export class Pen {
  decoder = new TextDecoder();
  incomplete = "";

  /** @param {Kind} kind */
  constructor(kind) {
    this.kind = kind;
    this.style = bare(kind);
  }

  reset() {
    this.style = bare(this.kind);
  }

  /** @param {Partial<Style>} change */
  set(change) {
    this.style = style({ ...this.style, ...change });
  }
}

// prettier-ignore
/** @type {Record<number, Partial<Style>>} */
const FLAGS = {
  1: { bold: true }, 2: { dim: true }, 3: { italic: true }, 4: { underline: true }, 7: { inverse: true }, 8: { hidden: true },
  9: { strike: true }, 21: { underline: true }, 22: { bold: undefined, dim: undefined }, 23: { italic: undefined },
  24: { underline: undefined }, 27: { inverse: undefined }, 28: { hidden: undefined }, 29: { strike: undefined },
  39: { fg: null }, 49: { bg: null },
};

/**
 * Obeys "select graphic rendition".
 * @param {Pen} pen
 * @param {string} text
 */
export function setStyle(pen, text) {
  // 38:2::1:2:3 and 38;2;1;2;3 mean the same.
  const codes = text.split(/[;]/).flatMap((part) => {
    const sub = part.split(":");
    if (sub.length > 1 && (sub[0] === "38" || sub[0] === "48") && sub[1] === "2" && sub.length > 5) sub.splice(2, 1);
    if (sub[0] === "4" && sub.length > 1) return [sub[1] === "0" ? 24 : 4];
    return sub.map((it) => Number.parseInt(it || "0", 10));
  });
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) pen.reset();
    else if (FLAGS[code]) pen.set(FLAGS[code]);
    else if (code >= 30 && code <= 37) pen.set({ fg: code - 30 });
    else if (code >= 40 && code <= 47) pen.set({ bg: code - 40 });
    else if (code >= 90 && code <= 97) pen.set({ fg: code - 82 });
    else if (code >= 100 && code <= 107) pen.set({ bg: code - 92 });
    else if (code === 38 || code === 48) {
      const which = code === 38 ? "fg" : "bg";
      if (codes[at + 1] === 5) {
        if (codes[at + 2] <= 255) pen.set({ [which]: codes[at + 2] });
        at += 2;
      } else if (codes[at + 1] === 2) {
        const rgb = codes.slice(at + 2, at + 5);
        if (rgb.length === 3 && rgb.every((it) => it >= 0 && it <= 255)) pen.set({ [which]: rgb });
        at += 4;
      }
    }
  }
}
