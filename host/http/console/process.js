// The page of one process: its terminal if this page can attach to it, otherwise its record in the history.

import { caller } from "./api.js";
import { notice } from "./dom.js";
import { fill, h } from "./element.js";
import { showLive } from "./live.js";
import { loginHere } from "./login.js";
import { loadRecord, showRecord } from "./record.js";
import * as running from "./running.js";

/** @import { Page } from "./console.js" */
/** @import { Running } from "./running.js" */

/** @param {Page} page */
export async function show(page) {
  const { main, route, signal, setTitle } = page;
  setTitle("Process");
  const known = running.find(route.name);
  if (known && known.state !== "detached" && known.state !== "refused") return showLive(page, known);
  if (known) running.forget(known);
  const record = await loadRecord(route.name);
  if (signal.aborted) return;
  if (record && !record.kept) return showRecord(page, record);
  // A caller who cannot read the record can still hold the key of the process.
  const process = running.attach(route.name, record?.call ?? null);
  await settled(process);
  if (signal.aborted) return;
  if (process.state !== "refused") return showLive(page, process);
  running.forget(process);
  if (record) return showRecord(page, record);
  const login = !caller.user && h("p", { class: "row" }, h("a", { class: "button", href: loginHere() }, "Log in"));
  const error = notice("bad", h("strong", {}, "Cannot show this process: "), `${process.reason}.`);
  fill(main, h("div", { class: "head" }, h("h1", { tabindex: "-1" }, route.name)), error, login);
}

/**
 * Resolves once the server has answered the attach.
 * @param {Running} process
 * @returns {Promise<void>}
 */
function settled(process) {
  return new Promise((resolve) => {
    const check = () => {
      if (process.state !== "waiting") resolve();
    };
    process.addEventListener("state", check);
    check();
  });
}
