// The table that all libraries share: clients/vectors.json.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { inspect } from "node:util";
import { parseAddress, parseToken } from "../src/address.ts";
import { apiFailure, failure } from "../src/errors.ts";
import { CANCEL, DETACH, END, LIST, attachMessage, callMessage, decode } from "../src/messages.ts";
import type { Frame, Result } from "../src/messages.ts";
import { Distillery } from "../src/node.ts";
import { Output } from "../src/output.ts";
import { delayOf } from "../src/retry.ts";
import { Session } from "../src/session.ts";
import type { Step } from "../src/session.ts";
import { bytes, hex, vectors } from "./support.ts";
import type { Case } from "./support.ts";

const SIGNALS: Record<string, string> = { end: END, cancel: CANCEL, detach: DETACH, list: LIST };

const frameOf = (frame: Case): Frame => frame["text"] ?? bytes(frame["binary"]);

test("messages are written", () => {
  for (const { name, call, attach, signal, json } of vectors["messages"]!) {
    const written =
      call !== undefined
        ? callMessage(call.name, call.params, call.detach)
        : attach !== undefined
          ? attachMessage(attach)
          : SIGNALS[signal]!;
    assert.deepEqual(JSON.parse(written), json, name);
  }
});

test("frames are read", () => {
  for (const { name, frame, event, error } of vectors["frames"]!) {
    if (error !== undefined) {
      const says = { message: `the server sent ${error}: use the client of its release` };
      assert.throws(() => decode(frameOf(frame)), says, name);
      continue;
    }
    const read = decode(frameOf(frame));
    assert.deepEqual(read.type === "data" ? { ...read, bytes: hex(read.bytes) } : read, event, name);
  }
});

/** Returns a step in the form of the table. */
function given(step: Step | undefined): Case | null {
  switch (step?.type) {
    case undefined:
      return null;
    case "data":
      return { data: [step.stream, hex(step.bytes)] };
    case "lost":
      return { lost: [step.stream, step.from, step.to] };
    case "message":
      return { message: step.message };
    case "ended":
      return { ended: step.result };
    case "detached":
      return { detached: true };
    case "refused":
      return { refused: step.message };
  }
}

test("sessions continue where they were", () => {
  for (const { name, start, steps, kept } of vectors["sessions"]!) {
    const session = new Session(start);
    for (const { open, frame, gives, error } of steps) {
      if (open !== undefined) assert.deepEqual(JSON.parse(session.open()), open, name);
      else if (error !== undefined) assert.throws(() => session.on(frameOf(frame)), new RegExp(error), name);
      else assert.deepEqual(given(session.on(frameOf(frame))), gives, name);
    }
    assert.equal(session.kept, kept, name);
  }
});

/** Returns what a reader gets if each piece arrives after it has read the one before. */
async function readPieces<T>(pieces: string[], read: (output: Output) => AsyncIterable<T>): Promise<T[]> {
  let left = pieces.map(bytes);
  const got: T[] = [];
  // The reader asks for more once it has nothing to read.
  const output = new Output("stdout", () => queueMicrotask(next), false);
  const next = () => {
    const [first, ...rest] = left;
    left = rest;
    if (first === undefined) output.end();
    else output.push(first);
  };
  for await (const item of read(output)) got.push(item);
  return got;
}

test("outputs are read as lines, text and bytes", async () => {
  for (const { name, pieces, lines, text } of vectors["outputs"]!) {
    assert.deepEqual(await readPieces(pieces, (output) => output.lines()), lines, name);
    assert.deepEqual(await readPieces(pieces, (output) => output.text()), text, name);
    assert.deepEqual((await readPieces(pieces, (output) => output)).map(hex), pieces, name);
  }
});

test("addresses are read", () => {
  for (const { url, error, api, socket, private: isPrivate } of vectors["addresses"]!) {
    if (error) assert.throws(() => parseAddress(url), TypeError, url);
    else assert.deepEqual(parseAddress(url), { api, socket, isPrivate }, url);
  }
});

test("tokens are read", () => {
  for (const { text, token, error } of vectors["tokens"]!) {
    if (error) assert.throws(() => parseToken(text), TypeError, text);
    else assert.equal(parseToken(text), token);
  }
});

test("token needs a private connection", () => {
  assert.throws(() => new Distillery("http://calls.example.org", { token: "dst_a" }), /use https/);
  new Distillery("http://calls.example.org", { token: "dst_a", insecure: true });
  new Distillery("http://127.0.0.1:8080", { token: "dst_a" });
});

test("token is not shown", () => {
  const shown = inspect(new Distillery("http://127.0.0.1:8080", { token: "dst_secret" }), {
    depth: 9,
    showHidden: true,
  });
  assert.doesNotMatch(shown, /dst_secret/);
});

test("attempts wait longer and longer", () => {
  for (const { policy, delays } of vectors["retries"]!) {
    const all = [];
    for (let delay = delayOf(0, policy); delay !== undefined; delay = delayOf(all.length, policy)) all.push(delay);
    assert.deepEqual(all, delays);
  }
});

test("failures say what to do", () => {
  for (const { call, result, says } of vectors["failures"]!) assert.equal(failure(call, result as Result), says);
  for (const { status, message, says } of vectors["api_failures"]!) {
    assert.equal(apiFailure(status, message ?? undefined), says);
  }
});

test("requests are those of the API", async () => {
  const heard: Case[] = [];
  const listener = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => {
      const { method, url, headers } = request;
      heard.push({ sends: [method, url], body, token: headers.authorization });
      response.end("[]");
    });
  });
  await new Promise<void>((done) => listener.listen(0, "127.0.0.1", done));
  const { port } = listener.address() as AddressInfo;
  const { api } = new Distillery(`http://127.0.0.1:${port}/prefix`, { token: "dst_a" });
  try {
    for (const { method, arguments: args, sends, body } of vectors["requests"]!) {
      await (api as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[method]!(...args);
      const [last] = heard.splice(0);
      assert.deepEqual(last!["sends"], [sends[0], `/prefix/api/v1${sends[1]}`]);
      assert.deepEqual(last!["body"] === "" ? undefined : JSON.parse(last!["body"]), body, method);
      assert.equal(last!["token"], "Bearer dst_a");
    }
  } finally {
    listener.close();
    listener.closeAllConnections();
  }
});
