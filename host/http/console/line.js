// A line of a terminal: its text, and the style of each part.

/** @import { Style } from "./style.js" */
/** @typedef {[character: string, style: Style]} Cell */

const ASCII = /^[\x20-\x7e]*$/;
const ZERO_WIDTH = /\p{Mn}|\p{Me}|\u200d|[\ufe00-\ufe0f]/u;
const WIDE =
  /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{20000}-\u{3fffd}]/u;

/**
 * Returns the number of columns that a character takes.
 * @param {string} character
 */
export function columns(character) {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x300) return 1;
  return ZERO_WIDTH.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

export class Line {
  text = "";
  // In characters.
  size = 0;
  // Whether each character is ASCII: one unit of the string and one column.
  plain = true;
  /** @type {[length: number, style: Style][]} */
  spans = [];
  // Grows with each change.
  version = 0;
  // Whether it continues the line above, which was too long.
  joined = false;

  /**
   * @param {string} text
   * @param {Style} of
   */
  append(text, of) {
    const plain = ASCII.test(text);
    const size = plain ? text.length : [...text].length;
    this.text += text;
    this.size += size;
    this.plain &&= plain;
    this.#span(size, of);
    this.version += 1;
    return size;
  }

  /**
   * @param {number} size
   * @param {Style} of
   */
  #span(size, of) {
    const last = this.spans.at(-1);
    if (last && last[1] === of) last[0] += size;
    else this.spans.push([size, of]);
  }

  // Returns each character with its style.
  cells() {
    const characters = [...this.text];
    /** @type {Cell[]} */
    const cells = [];
    let at = 0;
    for (const [size, of] of this.spans) {
      for (const end = at + size; at < end; at += 1) cells.push([characters[at], of]);
    }
    return cells;
  }

  /**
   * Replaces the content of the line.
   * @param {Cell[]} cells
   */
  replace(cells) {
    const version = this.version;
    Object.assign(this, { text: "", size: 0, plain: true, spans: [] });
    let run = "";
    cells.forEach(([character, of], at) => {
      run += character;
      if (cells[at + 1]?.[1] !== of) {
        this.append(run, of);
        run = "";
      }
    });
    this.version = version + 1;
  }
}
