// The stored output of a process: shown as a terminal shows it, searched, and downloaded byte for byte.

import { getBytes, messageOf } from "./api.js";
import { announce, notice } from "./dom.js";
import { fill, h } from "./element.js";
import { Output } from "./output.js";
import { Screen } from "./screen.js";
import { Terminal } from "./terminal.js";
import { bytes as size, plural } from "./text.js";

/** @import { ProcessRecord } from "./api.js" */
/** @import { Stream } from "./wire.js" */
/** @typedef {{ offset: number, bytes: Uint8Array<ArrayBuffer> }} Piece `offset` is where its bytes begin in the stream */
/** @typedef {{ pieces: Piece[], total: number }} Stored `total` counts also the bytes that are not kept */

// Types of files that their first bytes tell.
/** @type {[string, string, number[]][]} */
const TYPES = [
  ["image/png", "png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", "jpg", [0xff, 0xd8, 0xff]],
  ["image/gif", "gif", [0x47, 0x49, 0x46, 0x38]],
  ["application/pdf", "pdf", [0x25, 0x50, 0x44, 0x46]],
  ["application/zip", "zip", [0x50, 0x4b, 0x03, 0x04]],
  ["application/gzip", "gz", [0x1f, 0x8b]],
];
// A NUL within so many bytes tells that the output is no text.
const LOOKED_AT = 8192;

/**
 * Loads all of a stream that is kept.
 * @param {string} id
 * @param {Stream} stream
 * @param {AbortSignal} signal
 * @returns {Promise<Stored>}
 */
async function load(id, stream, signal) {
  /** @type {Stored} */
  const stored = { pieces: [], total: 0 };
  let from = 0;
  for (;;) {
    const path = `processes/${encodeURIComponent(id)}/output?stream=${stream}&from=${from}`;
    const { bytes, offset, total } = await getBytes(path, signal);
    stored.total = total;
    if (bytes.length) stored.pieces.push({ offset, bytes });
    from = offset + bytes.length;
    // An answer ends before bytes that are not kept.
    if (!bytes.length || from >= total) return stored;
  }
}

/**
 * Passes each piece on, and how many bytes before it are not kept.
 * @param {Stored} stored
 * @param {(bytes: Uint8Array<ArrayBuffer>, missing: number) => void} each
 */
function visit({ pieces, total }, each) {
  let at = 0;
  for (const { offset, bytes } of pieces) {
    each(bytes, offset - at);
    at = offset + bytes.length;
  }
  if (at < total) each(new Uint8Array(), total - at);
}

/** @param {Uint8Array} bytes */
function typeOf(bytes) {
  return TYPES.find(([, , magic]) => magic.every((byte, at) => bytes[at] === byte));
}

/**
 * Returns the section with the stored output of a process.
 * @param {ProcessRecord} record
 * @param {AbortSignal} signal
 */
export function storedOutput(record, signal) {
  const body = h("div", { class: "stored" });
  const choice = h(
    "select",
    { onchange: () => draw() },
    h("option", { value: "stdout" }, "stdout"),
    h("option", { value: "stderr" }, "stderr"),
  );
  const found = h("p", { class: "aside", role: "status" });
  const search = h("input", { type: "search", autocomplete: "off", spellcheck: "false", "data-filter": true });
  const save = h("button", { type: "button" }, "Download");
  const tools = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Search the output" },
    h("label", {}, h("span", {}, "Stream"), choice),
    h("label", {}, h("span", {}, "Lines with"), search),
    save,
  );
  tools.addEventListener("submit", (event) => event.preventDefault());
  const draw = async () => {
    const stream = /** @type {Stream} */ (choice.value);
    search.oninput = null;
    save.disabled = true;
    fill(found);
    try {
      const stored = await load(record.id, stream, signal);
      if (signal.aborted || stream !== choice.value) return;
      save.disabled = stored.pieces.length === 0;
      save.onclick = () => download(record, stream, stored);
      show(body, found, search, stored);
    } catch (error) {
      if (!signal.aborted) fill(body, notice("", `The output cannot be shown: ${messageOf(error)}.`));
    }
  };
  draw();
  return h("section", {}, h("h2", {}, "Output"), tools, found, body);
}

/**
 * @param {HTMLElement} body
 * @param {HTMLElement} found
 * @param {HTMLInputElement} search
 * @param {Stored} stored
 */
function show(body, found, search, stored) {
  const first = stored.pieces[0]?.bytes;
  if (!first) return fill(body, h("p", { class: "empty" }, stored.total ? "Not kept." : "Nothing was written."));
  const type = typeOf(first);
  if (type || first.subarray(0, LOOKED_AT).includes(0)) {
    const what = `${size(stored.total)} of ${type ? type[0] : "bytes that are no text"}: download them to see them.`;
    return fill(body, h("p", { class: "empty" }, what));
  }
  const screen = new Screen();
  const whole = new Terminal(screen);
  const output = new Output(screen, () => whole.update());
  visit(stored, (bytes, missing) => {
    if (missing) {
      screen.skip("out");
      // In its place: what came before it is on the screen.
      output.add("out", new TextEncoder().encode(`\r\n[${size(missing)} are not kept]\r\n`));
    }
    output.add("out", bytes);
  });
  fill(body, whole.element);
  search.oninput = () => {
    const wanted = search.value.toLowerCase();
    if (!wanted) {
      fill(found);
      return fill(body, whole.element);
    }
    const lines = screen.text().split("\n");
    const matching = lines.filter((line) => line.toLowerCase().includes(wanted));
    const result = new Screen();
    const shown = new Terminal(result);
    result.write("out", new TextEncoder().encode(matching.join("\r\n")));
    fill(found, `${plural(matching.length, "line")} of ${lines.length}`);
    fill(body, shown.element);
    shown.update();
  };
  if (search.value) search.oninput(new InputEvent("input"));
}

/**
 * Downloads what a process has written to stdout, byte for byte.
 * @param {{ id: string, call: string }} process
 */
export async function downloadOutput(process) {
  try {
    download(process, "stdout", await load(process.id, "stdout", new AbortController().signal));
  } catch (error) {
    announce(`The output cannot be downloaded: ${messageOf(error)}`);
  }
}

/**
 * @param {{ id: string, call: string }} record
 * @param {Stream} stream
 * @param {Stored} stored
 */
function download(record, stream, stored) {
  const type = stored.pieces[0] && typeOf(stored.pieces[0].bytes);
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  let lost = 0;
  visit(stored, (bytes, missing) => {
    parts.push(bytes);
    lost += missing;
  });
  const file = new Blob(parts, { type: type?.[0] ?? "application/octet-stream" });
  const name = `${record.call}-${record.id}.${stream === "stderr" ? "stderr.txt" : (type?.[1] ?? "txt")}`;
  const link = h("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  if (lost) announce(`${size(lost)} of the output are not kept, and not in the file`);
}
