// A page that talks to a call. The process goes on when the network is gone for a moment, and the page continues with it
// at the byte that it has shown. Without a token, which is not kept anywhere, this also holds for a reloaded page.

import { Distillery } from "distillery-client";

/** @template {Element} T @param {string} id @param {new () => T} kind @returns {T} */
function find(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`the page has no ${id}`);
  return found;
}

const start = find("start", HTMLFormElement);
const answer = find("answer", HTMLFormElement);
const output = find("output", HTMLPreElement);
const state = find("state", HTMLParagraphElement);
const file = find("file", HTMLInputElement);

/** What this page keeps of a call, until it ends. The key of an anonymous process is a secret of this tab. */
const KEPT = "call";

/** @type {import("distillery-client").Call | undefined} */
let call;

/** @param {import("distillery-client").CallEvent} event */
function onEvent(event) {
  if (event.type === "queued") state.textContent = `Waiting, at position ${event.position}`;
  if (event.type === "started" || event.type === "attached") state.textContent = "Running";
  if (event.type === "reconnecting") state.textContent = `Connection lost, attempt ${event.attempt}`;
}

/** @param {import("distillery-client").Call} running @param {string | undefined} server To keep for a reload */
async function show(running, server) {
  call = running;
  try {
    for await (const text of running.stdout.text()) {
      output.append(text);
      const { ticket } = running;
      if (server !== undefined) {
        sessionStorage.setItem(KEPT, JSON.stringify({ server, ticket, shown: output.textContent }));
      }
    }
    const result = await running.result();
    state.textContent = result.success ? "Success" : `Failure: ${result.message}`;
  } catch (error) {
    state.textContent = error instanceof Error ? error.message : String(error);
  }
  sessionStorage.removeItem(KEPT);
}

start.addEventListener("submit", (event) => {
  event.preventDefault();
  const [server = "", token = "", name = "", param = ""] = ["server", "token", "call", "param"].map((field) =>
    String(new FormData(start).get(field)),
  );
  output.textContent = "";
  try {
    const distillery = new Distillery(server, { token: token || undefined });
    void show(
      distillery.call(name, param === "" ? [] : [param], { detach: true, onEvent }),
      token ? undefined : server,
    );
  } catch (error) {
    state.textContent = String(error);
  }
});

answer.addEventListener("submit", (event) => {
  event.preventDefault();
  void call?.write(`${new FormData(answer).get("text")}\n`);
  answer.reset();
});

find("cancel", HTMLButtonElement).addEventListener("click", () => call?.cancel());

file.addEventListener("change", () => {
  const [chosen] = file.files ?? [];
  if (chosen !== undefined) void call?.send(chosen);
});

const kept = sessionStorage.getItem(KEPT);
if (kept !== null) {
  const { server, ticket, shown } = JSON.parse(kept);
  output.textContent = shown;
  void show(new Distillery(server).attach(ticket, { onEvent }), server);
}
