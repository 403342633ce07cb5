// Calls of a real server.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";
import { ApiError, CallEndedError, CallFailedError, ConnectError, Distillery, OutputLostError } from "../src/node.ts";
import { linesOf, live, server, vectors } from "./support.ts";

const MIB = 1 << 20;
const distillery = () => new Distillery(server.url, { token: server.token });
const anonymous = () => new Distillery(server.url);
const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

test("conversations are as in the table", live, async () => {
  for (const { name, call, params, input, stdout, outcome } of vectors["conversations"]!) {
    const running = anonymous().call(call, params, { input });
    assert.equal(await running.stdout.readText(), stdout, name);
    assert.deepEqual(await running.result(), outcome, name);
  }
});

test("prompt is read before its answer is written", live, async () => {
  const call = anonymous().call("ask");
  const said = [];
  for await (const text of call.stdout.text()) {
    said.push(text);
    if (text.endsWith("? ")) await call.write("Ada\n");
  }
  assert.equal(said.join(""), "What is your name? Hello, Ada!\n");
  assert.equal((await call.result()).success, true);
});

test("run returns the output and the value", live, async () => {
  const ran = await anonymous().run("assemble", ["1"]);
  assert.equal(ran.stdout, "part 1 is on\n");
  assert.deepEqual(ran.value, { parts: 1 });
  assert.deepEqual(await anonymous().call("assemble", ["1"]).value(), { parts: 1 });
});

test("run and value throw if the call fails", live, async () => {
  const options = { input: "\n" };
  for (const fail of [() => anonymous().run("ask", [], options), () => anonymous().call("ask", [], options).value()]) {
    await assert.rejects(fail(), (error) => {
      assert.ok(error instanceof CallFailedError);
      assert.equal(error.message, 'call "ask" failed: exit status 2: a name is needed');
      return error.result.status === 2;
    });
  }
});

test("stderr is forwarded if the manifest says so", live, async () => {
  const call = anonymous().call("stderr_words");
  const [out, err] = await Promise.all([call.stdout.readText(), call.stderr.readText()]);
  assert.equal(out, "trying\n");
  assert.equal(err, "warning: the flux is low\nno capacitor at hand\n\n\n");
});

test("cancel leaves the process its last words", live, async () => {
  const events: string[] = [];
  const call = anonymous().call("countdown", ["60"], { onEvent: ({ type }) => events.push(type) });
  const lines = [];
  for await (const line of call) {
    lines.push(line);
    if (lines.length === 1) call.cancel();
  }
  assert.deepEqual(lines, ["60", "countdown stopped at 60"]);
  const result = await call.result();
  assert.deepEqual([result.success, result.kind, result.reason], [false, "cancelled", "client"]);
  assert.deepEqual(events, ["started", "cancelling", "ended"]);
});

test("forced cancel has no grace", live, async () => {
  const call = anonymous().call("grind");
  await call.started;
  call.cancel({ force: true });
  assert.equal((await call.result()).stop, "interrupted");
});

test("abort cancels, and run throws its reason", live, async () => {
  const abort = new AbortController();
  const running = anonymous().run("countdown", ["60"], {
    signal: abort.signal,
    onEvent: ({ type }) => type === "started" && abort.abort(),
  });
  await assert.rejects(running, { name: "AbortError" });
  const call = anonymous().call("countdown", ["60"], { signal: AbortSignal.abort(new Error("too late")) });
  await assert.rejects(call.result(), { message: "too late" });
  await assert.rejects(linesOf(call), { message: "too late" });
});

test("abort forces after a time", live, async () => {
  const abort = new AbortController();
  const call = anonymous().call("grind", [], { signal: abort.signal, forceAfter: 0 });
  await call.started;
  abort.abort();
  const result = await call.result();
  assert.deepEqual([result.reason, result.stop], ["client", "interrupted"]);
});

test("cancel that waits behind input reaches the process", live, async () => {
  // The server stops reading at limits.input, and what follows the input waits.
  const input = async function* () {
    for (let sent = 0; ; sent++) {
      yield new Uint8Array(MIB);
      if (sent === 17) call.cancel({ force: true });
    }
  };
  const call = distillery().call("never_reads", [], { input: input() });
  assert.deepEqual([(await call.result()).kind, (await call.result()).reason], ["cancelled", "operator"]);
});

test("call ends although its input never does", live, async () => {
  // Every write succeeds at once, as the server drops what follows the end. The result must be read all the same.
  const input = async function* () {
    const piece = new Uint8Array(MIB).fill(10);
    for (;;) yield piece;
  };
  const call = anonymous().call("echo", ["1"], { input: input() });
  assert.equal((await call.result()).success, true);
});

test("file goes in and out in bounded memory", live, async () => {
  const directory = await mkdtemp(join(tmpdir(), "distillery-"));
  const [from, to] = [join(directory, "in"), join(directory, "out")];
  const content = Buffer.alloc(48 * MIB);
  for (let at = 0; at < content.length; at += 4) content.writeUInt32LE(at, at);
  await writeFile(from, content);
  const call = anonymous().call("echo", [], { input: createReadStream(from) });
  let most = 0;
  const watched = async function* () {
    for await (const piece of call.stdout) {
      most = Math.max(most, call.stdout.buffered);
      yield piece;
    }
  };
  await pipeline(watched, createWriteStream(to));
  assert.equal((await call.result()).success, true);
  assert.equal(sha(await readFile(to)), sha(content));
  assert.ok(most <= 2 * MIB, `${most}`);
});

test("blob goes in and comes out as a web stream", live, async () => {
  const call = anonymous().call("echo", [], { input: new Blob(["one ", new Uint8Array([0xff, 0])]) });
  const whole = new Uint8Array(await new Response(call.stdout.readable()).arrayBuffer());
  assert.deepEqual([...whole], [...Buffer.from("one "), 0xff, 0]);
});

test("input that fails does not look complete", live, async () => {
  const input = async function* () {
    yield "one\n";
    throw new Error("the disk is gone");
  };
  const call = anonymous().call("echo", [], { input: input() });
  await assert.rejects(call.result(), { message: "the disk is gone" });
});

test("result without a reader drops output, and says so", live, async () => {
  const call = anonymous().call("many_lines", ["100000"]);
  assert.equal((await call.result()).success, true);
  await assert.rejects(linesOf(call), OutputLostError);
  // The next read continues behind the gap.
  const rest = await linesOf(call);
  assert.equal(rest.at(-1), "line 100000 of 100000, which is as long as such lines are");
});

test("output is read in one place", live, async () => {
  const call = anonymous().call("echo", ["1"], { input: "one\n" });
  const first = call.stdout.lines();
  await first.next();
  await assert.rejects(call.stdout.bytes().next(), /read it in one place/);
  await first.return();
  assert.deepEqual(await linesOf(call), []);
});

test("end of a block cancels the call", live, async () => {
  const call = anonymous().call("countdown", ["60"]);
  await call.started;
  await call[Symbol.asyncDispose]();
  assert.equal((await call.result()).reason, "client");
});

test("write after the end is an error", live, async () => {
  const call = anonymous().call("ask", [], { input: "Ada\n" });
  await call.result();
  await assert.rejects(call.write("more"), CallEndedError);
});

test("a hundred calls run in parallel", live, async () => {
  const client = anonymous();
  const numbers = Array.from({ length: 100 }, (_, index) => `call ${index}\n`);
  const all = await Promise.all(numbers.map((input) => client.run("echo", ["1"], { input })));
  assert.deepEqual(
    all.map(({ stdout }) => stdout),
    numbers,
  );
});

test("API answers with its types", live, async () => {
  const { api } = distillery();
  assert.equal((await api.auth("call:echo")).Explain?.Allowed, true);
  assert.deepEqual(await anonymous().api.auth(), { User: "", Token: false, Scopes: [] });
  const echo = (await api.calls()).find(({ name }) => name === "echo");
  assert.deepEqual(
    echo?.params?.map(({ name }) => name),
    ["lines"],
  );
  await api.putSystem({ Slug: "typescript", URL: "https://a.example" });
  assert.ok((await api.systems()).some(({ Slug }) => Slug === "typescript"));
  await api.removeSystem("typescript");
  const { ID } = await api.putNews({ Title: "A", Content: "*b*" });
  assert.ok((await api.news()).some((item) => item.ID === ID && item.Content.includes("<em>")));
  await api.removeNews(ID);
  const { id, token } = await api.addToken({ label: "test", scopes: ["call:echo"] });
  assert.deepEqual((await new Distillery(server.url, { token: token! }).api.auth()).Scopes, ["call:echo"]);
  await api.revokeToken(id);
});

test("processes are listed and cancelled", live, async () => {
  const { api } = distillery();
  const call = distillery().call("countdown", ["60"]);
  const { id } = await call.started;
  const running = await api.processes({ outcome: "running", call: "countdown" });
  assert.ok(running.some((process) => process.id === id));
  await api.cancelProcess(id);
  assert.equal((await call.result()).kind, "cancelled");
  assert.equal((await api.process(id)).outcome, "cancelled");
});

test("errors say what to do", live, async () => {
  const stranger = new Distillery(server.url, { token: "dst_nonsense" });
  for (const ask of [() => stranger.api.calls(), () => stranger.run("echo", ["1"])]) {
    await assert.rejects(
      ask(),
      (error) => error instanceof ApiError && error.status === 401 && /token add/.test(error.message),
    );
  }
  await assert.rejects(anonymous().api.plugins(), (error) => error instanceof ApiError && error.status >= 401);
  const nowhere = new Distillery("http://127.0.0.1:9");
  for (const ask of [() => nowhere.api.calls(), () => nowhere.run("echo")]) {
    await assert.rejects(ask(), (error) => error instanceof ConnectError && /does the server run/.test(error.message));
  }
  assert.throws(() => anonymous().call("echo", [3 as unknown as string]), /use String\(value\)/);
});

test("every operation of the API has a method", live, async () => {
  const { paths } = await (await fetch(`${server.url}/api/v1/openapi.json`)).json();
  const asked = new Set(vectors["requests"]!.map(({ operation }) => operation));
  const operations = Object.values(paths as Record<string, Record<string, { operationId?: string }>>)
    .flatMap((path) => Object.values(path).map((operation) => operation.operationId))
    .filter((operation) => operation !== undefined);
  assert.ok(operations.length > 20);
  const without = operations.filter((it) => !asked.has(it) && !(it in vectors.operations_without_a_method));
  assert.deepEqual(without, []);
});
