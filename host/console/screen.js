// What a process has written, as a terminal would show it: lines of styled text, within bounds. It knows bytes and escape
// sequences, and neither the document nor where the bytes come from.

// How much is kept to scroll back to, and where a line without an end is broken.
export const LINES = 150_000;
export const CHARACTERS = 16 << 20;
const LINE = 8192;
// An escape sequence that goes on for longer is none.
const SEQUENCE = 4096;
// How far a cursor may be sent below the last line.
const BELOW = 500;

const CSI = /\x1b\[([0-?]*)[ -/]*([@-~])/y;
const STRING = /\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\?)/y;
const OTHER = /\x1b[ -/]*[0-~]/y;
const BEGUN = /^\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)$/;
const TEXT = /[^\x00-\x1f\x7f-\x9f]+/y;
const PLAIN = /^[\x20-\x7e]*$/;
const ZERO = /\p{Mn}|\p{Me}|\u200d|[\ufe00-\ufe0f]/u;
const WIDE =
  /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{20000}-\u{3fffd}]/u;

// How many columns a character takes.
export function columns(character) {
  const code = character.codePointAt(0);
  if (code < 0x300) return 1;
  return ZERO.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

const styles = new Map();

// The one object of a style, so that two are the same when they look the same.
function style(of) {
  const key = JSON.stringify(of);
  let known = styles.get(key);
  if (!known) {
    // Truecolour makes new ones for ever; those in use stay with their lines.
    if (styles.size > 10_000) styles.clear();
    known = Object.freeze({ ...of });
    styles.set(key, known);
  }
  return known;
}

const bare = (kind) => style({ kind, fg: null, bg: null });

export class Line {
  text = "";
  // How many characters, and how many columns they may take, are the same for most lines.
  size = 0;
  plain = true;
  // [how many characters, their style], one after the other.
  spans = [];
  // Grows with each change, so that who has drawn it knows.
  version = 0;
  // Goes on from the line above, which was too long for one.
  joined = false;

  append(text, of) {
    const plain = PLAIN.test(text);
    const size = plain ? text.length : [...text].length;
    this.text += text;
    this.size += size;
    this.plain &&= plain;
    this.#span(size, of);
    this.version += 1;
    return size;
  }

  #span(size, of) {
    const last = this.spans.at(-1);
    if (last && last[1] === of) last[0] += size;
    else this.spans.push([size, of]);
  }

  // Each character with its style.
  cells() {
    const characters = this.plain ? this.text.split("") : [...this.text];
    const cells = [];
    let at = 0;
    for (const [size, of] of this.spans) {
      for (const end = at + size; at < end; at += 1) cells.push([characters[at], of]);
    }
    return cells;
  }

  become(cells) {
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

// What one stream has said of how its text looks, and what of it is not whole yet.
class Pen {
  constructor(kind) {
    this.kind = kind;
    this.decoder = new TextDecoder();
    this.begun = "";
    this.plain();
  }

  plain() {
    this.style = bare(this.kind);
  }

  set(change) {
    this.style = style({ ...this.style, ...change });
  }
}

export class Screen {
  // From this line on something is other than when it was last taken.
  changed = 0;
  // How many lines are gone at the beginning.
  dropped = 0;
  lines = [new Line()];
  #row = 0;
  #column = 0;
  // The line that counts as the uppermost one of the terminal.
  #top = 0;
  #characters = 0;
  #pens = { out: new Pen("out"), err: new Pen("err") };

  constructor({ lines = LINES, characters = CHARACTERS } = {}) {
    this.most = { lines, characters };
  }

  // Bytes of the stream `out` or `err`.
  write(stream, bytes) {
    const pen = this.#pens[stream];
    this.#read(pen.begun + pen.decoder.decode(bytes, { stream: true }), pen);
    this.#trim();
  }

  // Bytes are missing: what comes next has nothing to do with what came last.
  skip(stream) {
    this.#pens[stream] = new Pen(stream);
  }

  // A line that no stream has written: what was typed (`in`), or a remark of the console (`note`).
  say(kind, text) {
    if (kind === "note" && this.#column > 0) this.#feed();
    const parts = text.split("\n");
    parts.forEach((part) => {
      this.#put(part.replace(/[\x00-\x1f\x7f-\x9f]/g, "\ufffd"), bare(kind));
      this.#feed();
    });
    this.#trim();
  }

  // All of it, without looks.
  text() {
    let text = "";
    this.lines.forEach((line, at) => {
      text += (at && !line.joined ? "\n" : "") + line.text;
    });
    return text;
  }

  #read(text, pen) {
    let at = 0;
    pen.begun = "";
    const match = (what) => {
      what.lastIndex = at;
      const found = what.exec(text);
      if (found) at = what.lastIndex;
      return found;
    };
    while (at < text.length) {
      const run = match(TEXT);
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
      // The two ends of a string are told apart only when the character behind an escape is there.
      const rest = text.length - at < SEQUENCE ? text.slice(at) : "";
      if (rest && BEGUN.test(rest)) {
        pen.begun = rest;
        return;
      }
      const found = match(CSI);
      if (found) this.#sequence(found[1], found[2], pen);
      else if (!match(STRING) && !match(OTHER)) at += 1;
    }
  }

  #control(code, pen) {
    if (code === 10 || code === 11 || code === 12) this.#feed();
    else if (code === 13) this.#column = 0;
    else if (code === 8) this.#column = Math.max(0, this.#column - 1);
    else if (code === 9) this.#put(" ".repeat(8 - (this.#column % 8)), pen.style);
  }

  #feed() {
    this.#row += 1;
    this.#column = 0;
    if (this.#row === this.lines.length) this.lines.push(new Line());
    this.#touch(this.#row);
  }

  #touch(row) {
    if (row < this.changed) this.changed = row;
  }

  #put(text, of) {
    let line = this.lines[this.#row];
    this.#touch(this.#row);
    while (this.#column + text.length > LINE) {
      const fits = [...text].slice(0, Math.max(0, LINE - this.#column)).join("");
      this.#write(line, fits, of);
      text = text.slice(fits.length);
      if (!text) return;
      this.#feed();
      line = this.lines[this.#row];
      line.joined = true;
    }
    this.#write(line, text, of);
  }

  #write(line, text, of) {
    const before = line.text.length;
    if (this.#column > line.size) line.append(" ".repeat(this.#column - line.size), bare("out"));
    if (this.#column === line.size) {
      this.#column += line.append(text, of);
    } else {
      const cells = line.cells();
      const put = [...text].map((character) => [character, of]);
      cells.splice(this.#column, put.length, ...put);
      line.become(cells);
      this.#column += put.length;
    }
    this.#characters += line.text.length - before;
  }

  #sequence(text, final, pen) {
    if (/[<=>?]/.test(text)) return;
    if (final === "m") return look(pen, text);
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

  #go(row, column) {
    const last = this.lines.length - 1;
    this.#row = Math.min(Math.max(row, this.#top), last + BELOW);
    while (this.lines.length <= this.#row) {
      this.#touch(this.lines.length);
      this.lines.push(new Line());
    }
    this.#column = Math.min(Math.max(column, 0), LINE - 1);
  }

  #eraseLine(what) {
    const line = this.lines[this.#row];
    const before = line.text.length;
    const cells = line.cells();
    if (what === 2) cells.length = 0;
    else if (what === 1) cells.fill([" ", bare("out")], 0, this.#column + 1);
    else cells.length = Math.min(cells.length, this.#column);
    line.become(cells);
    this.#characters += line.text.length - before;
    this.#touch(this.#row);
  }

  // From the cursor on, or everything since the terminal was last cleared.
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

  // A tenth at once, so that it is not done for each line.
  #trim() {
    let drop = 0;
    if (this.lines.length > this.most.lines) drop = this.lines.length - Math.floor(this.most.lines * 0.9);
    if (this.#characters > this.most.characters) {
      let left = this.#characters;
      for (let at = 0; at < this.#row && left > this.most.characters * 0.9; at += 1) {
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

const FLAGS = {
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underline: true },
  7: { inverse: true },
  8: { hidden: true },
  9: { strike: true },
  21: { underline: true },
  22: { bold: undefined, dim: undefined },
  23: { italic: undefined },
  24: { underline: undefined },
  27: { inverse: undefined },
  28: { hidden: undefined },
  29: { strike: undefined },
  39: { fg: null },
  49: { bg: null },
};

// Select graphic rendition: how what follows looks.
function look(pen, text) {
  // 38:2::1:2:3 and 38;2;1;2;3 mean the same.
  const codes = text.split(/[;]/).flatMap((part) => {
    const sub = part.split(":");
    if (sub.length > 1 && (sub[0] === "38" || sub[0] === "48") && sub[1] === "2" && sub.length > 5) sub.splice(2, 1);
    if (sub[0] === "4" && sub.length > 1) return [sub[1] === "0" ? 24 : 4];
    return sub.map((it) => Number.parseInt(it || "0", 10));
  });
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) pen.plain();
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
