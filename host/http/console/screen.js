// The output of a process as a terminal shows it: lines of styled text, within bounds. Knows bytes and escape sequences,
// not the document nor the source of the bytes.

import { Line } from "./line.js";
import { Pen, bare, setStyle } from "./style.js";

/** @import { Cell } from "./line.js" */
/** @import { Style } from "./style.js" */

// The scrollback.
export const LINES = 150_000;
export const CHARACTERS = 16 << 20;
// A longer line is broken.
const MAX_LINE = 8192;
// A longer escape sequence is taken for text.
const MAX_SEQUENCE = 4096;
// The cursor can move this far below the last line.
const MAX_BELOW = 500;
const TAB = 8;

const CSI = /\x1b\[([0-?]*)[ -/]*([@-~])/y;
const STRING = /\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\?)/y;
const OTHER = /\x1b[ -/]*[0-~]/y;
// A sequence that goes on in the next bytes.
const INCOMPLETE = /^\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)$/;
const PRINTABLE = /[^\x00-\x1f\x7f-\x9f]+/y;

export class Screen {
  // The first line that has changed since the screen was last drawn.
  changed = 0;
  // Lines dropped at the beginning.
  dropped = 0;
  lines = [new Line()];
  #row = 0;
  #column = 0;
  // The uppermost line that the cursor can reach.
  #top = 0;
  #characters = 0;
  #pens = { out: new Pen("out"), err: new Pen("err") };

  constructor({ lines = LINES, characters = CHARACTERS } = {}) {
    this.max = { lines, characters };
  }

  /**
   * @param {"out" | "err"} stream
   * @param {Uint8Array} bytes
   */
  write(stream, bytes) {
    const pen = this.#pens[stream];
    this.#read(pen.incomplete + pen.decoder.decode(bytes, { stream: true }), pen);
    this.#trim();
  }

  /**
   * Forgets the style and the incomplete sequence of a stream of which bytes are missing.
   * @param {"out" | "err"} stream
   */
  skip(stream) {
    this.#pens[stream] = new Pen(stream);
  }

  /**
   * Adds a line that no stream has written. Input continues the current line, as behind a prompt.
   * @param {"in" | "note"} kind
   * @param {string} text
   */
  addLine(kind, text) {
    if (kind === "note" && this.#column > 0) this.#feed();
    for (const part of text.split("\n")) {
      this.#put(part.replace(/[\x00-\x1f\x7f-\x9f]/g, "\ufffd"), bare(kind));
      this.#feed();
    }
    this.#trim();
  }

  // Returns the text before the cursor in its line.
  prompt() {
    return this.lines[this.#row]?.text.slice(0, this.#column) ?? "";
  }

  // Returns all text without its styles.
  text() {
    let text = "";
    this.lines.forEach((line, at) => {
      text += (at && !line.joined ? "\n" : "") + line.text;
    });
    return text;
  }

  /**
   * @param {string} text
   * @param {Pen} pen
   */
  #read(text, pen) {
    let at = 0;
    pen.incomplete = "";
    /** @param {RegExp} pattern */
    const match = (pattern) => {
      pattern.lastIndex = at;
      const found = pattern.exec(text);
      if (found) at = pattern.lastIndex;
      return found;
    };
    while (at < text.length) {
      const run = match(PRINTABLE);
      if (run) {
        this.#put(run[0], pen.style);
        continue;
      }
      const code = text.charCodeAt(at);
      if (code !== 0x1b) {
        this.#control(code, pen);
        at += 1;
        continue;
      }
      // The end of a string is known only with the character behind its escape.
      const rest = text.length - at < MAX_SEQUENCE ? text.slice(at) : "";
      if (rest && INCOMPLETE.test(rest)) {
        pen.incomplete = rest;
        return;
      }
      const found = match(CSI);
      if (found) this.#sequence(found[1], found[2], pen);
      else if (!match(STRING) && !match(OTHER)) at += 1;
    }
  }

  /**
   * @param {number} code
   * @param {Pen} pen
   */
  #control(code, pen) {
    if (code === 10 || code === 11 || code === 12) this.#feed();
    else if (code === 13) this.#column = 0;
    else if (code === 8) this.#column = Math.max(0, this.#column - 1);
    else if (code === 9) this.#put(" ".repeat(TAB - (this.#column % TAB)), pen.style);
  }

  #feed() {
    this.#row += 1;
    this.#column = 0;
    if (this.#row === this.lines.length) this.lines.push(new Line());
    this.#touch(this.#row);
  }

  /** @param {number} row */
  #touch(row) {
    if (row < this.changed) this.changed = row;
  }

  /**
   * Writes text at the cursor, and breaks lines that become too long.
   * @param {string} text
   * @param {Style} of
   */
  #put(text, of) {
    let line = this.lines[this.#row];
    this.#touch(this.#row);
    while (this.#column + text.length > MAX_LINE) {
      const fits = [...text].slice(0, Math.max(0, MAX_LINE - this.#column)).join("");
      this.#write(line, fits, of);
      text = text.slice(fits.length);
      if (!text) return;
      this.#feed();
      line = this.lines[this.#row];
      line.joined = true;
    }
    this.#write(line, text, of);
  }

  /**
   * @param {Line} line
   * @param {string} text
   * @param {Style} of
   */
  #write(line, text, of) {
    const before = line.text.length;
    if (this.#column > line.size) line.append(" ".repeat(this.#column - line.size), bare("out"));
    if (this.#column === line.size) {
      this.#column += line.append(text, of);
    } else {
      const cells = line.cells();
      const put = [...text].map((character) => /** @type {Cell} */ ([character, of]));
      cells.splice(this.#column, put.length, ...put);
      line.replace(cells);
      this.#column += put.length;
    }
    this.#characters += line.text.length - before;
  }

  /**
   * Obeys a control sequence.
   * @param {string} text its parameters
   * @param {string} final
   * @param {Pen} pen
   */
  #sequence(text, final, pen) {
    if (/[<=>?]/.test(text)) return;
    if (final === "m") return setStyle(pen, text);
    const given = text.split(";").map((it) => Number.parseInt(it, 10));
    const count = Math.max(1, given[0] || 1);
    switch (final) {
      case "A":
        return this.#go(this.#row - count, this.#column);
      case "B":
        return this.#go(this.#row + count, this.#column);
      case "C":
        return this.#go(this.#row, this.#column + count);
      case "D":
        return this.#go(this.#row, this.#column - count);
      case "E":
        return this.#go(this.#row + count, 0);
      case "F":
        return this.#go(this.#row - count, 0);
      case "G":
        return this.#go(this.#row, count - 1);
      case "H":
      case "f":
        return this.#go(this.#top + count - 1, Math.max(1, given[1] || 1) - 1);
      case "J":
        return this.#eraseBelow(given[0] || 0);
      case "K":
        return this.#eraseLine(given[0] || 0);
    }
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  #go(row, column) {
    const last = this.lines.length - 1;
    this.#row = Math.min(Math.max(row, this.#top), last + MAX_BELOW);
    while (this.lines.length <= this.#row) {
      this.#touch(this.lines.length);
      this.lines.push(new Line());
    }
    this.#column = Math.min(Math.max(column, 0), MAX_LINE - 1);
  }

  /** @param {number} what 0: from the cursor, 1: to the cursor, 2: all */
  #eraseLine(what) {
    const line = this.lines[this.#row];
    const before = line.text.length;
    const cells = line.cells();
    if (what === 2) cells.length = 0;
    else if (what === 1) cells.fill([" ", bare("out")], 0, this.#column + 1);
    else cells.length = Math.min(cells.length, this.#column);
    line.replace(cells);
    this.#characters += line.text.length - before;
    this.#touch(this.#row);
  }

  /** @param {number} what 0: from the cursor, 1: nothing, others: everything since the last clear */
  #eraseBelow(what) {
    if (what === 1) return;
    if (what === 0) this.#eraseLine(0);
    const from = what === 0 ? this.#row + 1 : this.#top;
    for (const line of this.lines.splice(from)) this.#characters -= line.text.length;
    if (what !== 0) {
      this.lines.push(new Line());
      this.#row = from;
      this.#column = 0;
    }
    this.#touch(from);
  }

  // Drops a tenth at once, rather than each line on its own.
  #trim() {
    let drop = 0;
    if (this.lines.length > this.max.lines) drop = this.lines.length - Math.floor(this.max.lines * 0.9);
    if (this.#characters > this.max.characters) {
      let left = this.#characters;
      for (let at = 0; at < this.#row && left > this.max.characters * 0.9; at += 1) {
        left -= this.lines[at].text.length;
        drop = Math.max(drop, at + 1);
      }
    }
    drop = Math.min(drop, this.#row);
    if (drop === 0) return;
    for (const line of this.lines.splice(0, drop)) this.#characters -= line.text.length;
    this.#row -= drop;
    this.#top = Math.max(0, this.#top - drop);
    this.dropped += drop;
    this.changed = 0;
  }
}
