// Connections that are lost.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionLostError, DetachedError, Distillery, InputLostError } from "../src/node.ts";
import type { CallEvent } from "../src/node.ts";
import { Proxy, linesOf, live, server, ticketOf } from "./support.ts";

const reconnect = { delay: 10, maxDelay: 50 };

/** Returns a promise for an event, and what to pass as `onEvent`. */
function until(type: CallEvent["type"]): [Promise<void>, (event: CallEvent) => void] {
  let onEvent: (event: CallEvent) => void = () => {};
  const happened = new Promise<void>((done) => (onEvent = (event) => event.type === type && done()));
  return [happened, onEvent];
}

/** Runs a test with a client whose connections can be broken. */
function broken(name: string, work: (client: Distillery, proxy: Proxy) => Promise<void>): void {
  void test(name, live, async () => {
    const proxy = await Proxy.start();
    try {
      await work(new Distillery(proxy.url, { token: server.token }), proxy);
    } finally {
      proxy.stop();
    }
  });
}

broken("detached call misses no byte, however often it is broken", async (client, proxy) => {
  proxy.breakAfter = 200_000;
  // Less than limits.kept_output: without a client the process does not wait.
  const call = client.call("many_lines", ["15000"], { detach: true, reconnect });
  const lines = await linesOf(call);
  assert.deepEqual(
    lines,
    Array.from({ length: 15000 }, (_, at) => `line ${at + 1} of 15000, which is as long as such lines are`),
  );
  assert.equal((await call.result()).success, true);
  assert.ok(proxy.accepted >= 4, `${proxy.accepted}`);
});

broken("connection that is lost is opened again at the right byte", async (client, proxy) => {
  const events: CallEvent[] = [];
  const call = client.call("countdown", ["3"], { detach: true, reconnect, onEvent: (event) => events.push(event) });
  const lines = [];
  for await (const line of call) {
    lines.push(line);
    proxy.breakAll();
  }
  assert.deepEqual(lines, ["3", "2", "1", "liftoff"]);
  assert.equal((await call.result()).success, true);
  const types = events.map(({ type }) => type);
  assert.ok(proxy.accepted >= 2, `${proxy.accepted}`);
  assert.ok(types.includes("reconnecting") && types.includes("attached"), types.join(" "));
});

broken("input goes on after a lost connection, if it was confirmed", async (client, proxy) => {
  const [attached, onEvent] = until("attached");
  const call = client.call("echo", ["2"], { detach: true, reconnect, onEvent });
  await call.write("one\n");
  await call.flush();
  proxy.breakAll();
  await attached;
  const lines = call.stdout.lines();
  assert.equal((await lines.next()).value, "one");
  await call.write("two\n");
  assert.equal((await lines.next()).value, "two");
  assert.equal((await call.result()).success, true);
});

broken("input that was on its way ends the call with an error", async (client, proxy) => {
  const call = client.call("echo", ["2"], { detach: true, reconnect });
  const { id } = await call.started;
  await call.write("one\n");
  await call.flush();
  proxy.swallows = true;
  await call.write("two\n");
  proxy.breakAll();
  const error = await call.result().then(
    () => assert.fail("it has no result"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof InputLostError);
  assert.deepEqual([error.confirmed, error.sent, error.ticket?.id], [4, 8, id]);
  proxy.swallows = false;
  const again = client.attach(ticketOf(error));
  await again.send("three\n");
  assert.deepEqual(await linesOf(again), ["one", "three"]);
});

broken("call that is not detached ends with its connection", async (client, proxy) => {
  const call = client.call("countdown", ["60"]);
  await call.started;
  proxy.breakAll();
  await assert.rejects(call.result(), (error) => {
    assert.ok(error instanceof ConnectionLostError);
    return /detach: true/.test(error.message) && error.ticket === undefined;
  });
});

broken("attempts end, and their error has the ticket", async (client, proxy) => {
  const call = client.call("countdown", ["600"], { detach: true, reconnect: { ...reconnect, attempts: 3 } });
  const lines = call.stdout.lines();
  await lines.next();
  proxy.stop();
  const error = await call.result().then(
    () => assert.fail("it has no result"),
    (error: unknown) => error,
  );
  assert.match((error as Error).message, /not opened again in 3 attempts/);
  await assert.rejects(lines.next(), ConnectionLostError);
  const again = new Distillery(server.url, { token: server.token }).attach(ticketOf(error));
  again.cancel();
  const rest = await linesOf(again);
  // The starter had read the first line, and the ticket continues behind it.
  assert.ok(rest.length >= 1 && !rest.includes("600") && rest.at(-1)!.startsWith("countdown stopped"), `${rest}`);
});

broken("reconnecting can be turned off", async (client, proxy) => {
  const call = client.call("countdown", ["600"], { detach: true, reconnect: false });
  const { id } = await call.started;
  proxy.breakAll();
  await assert.rejects(call.result(), ConnectionLostError);
  await new Distillery(server.url, { token: server.token }).api.cancelProcess(id);
});

broken("detached client leaves a ticket at the byte it has read", async (client) => {
  const call = client.call("conversation", ["Ada"], { detach: true });
  const lines = call.stdout.lines();
  await call.write("one\ntwo\n");
  assert.equal((await lines.next()).value, "hello Ada");
  assert.equal((await lines.next()).value, "echo: one");
  const ticket = await call.detach();
  assert.equal(ticket.stdout, "hello Ada\necho: one\n".length);
  await assert.rejects(lines.next(), DetachedError);
  await assert.rejects(call.result(), DetachedError);
  const again = client.attach(JSON.parse(JSON.stringify(ticket)));
  await again.end();
  assert.deepEqual(await linesOf(again), ["echo: two"]);
  assert.equal((await again.result()).success, true);
});

broken("anonymous client continues with its key", async (_, proxy) => {
  const client = new Distillery(proxy.url);
  const [attached, onEvent] = until("attached");
  const call = client.call("echo", ["2"], { detach: true, reconnect, onEvent });
  assert.ok((await call.started).key);
  await call.write("one\n");
  await call.flush();
  proxy.breakAll();
  await attached;
  await call.write("two\n");
  assert.deepEqual(await linesOf(call), ["one", "two"]);
});

broken("cancel during a lost connection is sent with the next", async (client, proxy) => {
  const call = client.call("countdown", ["600"], {
    detach: true,
    reconnect,
    onEvent: ({ type }) => type === "reconnecting" && call.cancel(),
  });
  const lines = call.stdout.lines();
  await lines.next();
  proxy.breakAll();
  assert.equal((await call.result()).reason, "client");
});

broken("block of a detached call leaves it running", async (client) => {
  const call = client.call("countdown", ["600"], { detach: true });
  // Also if it has not started yet.
  await call[Symbol.asyncDispose]();
  const id = call.id!;
  assert.equal((await client.api.process(id)).outcome, "running");
  await client.api.cancelProcess(id);
  const refused = client.call("nowhere", [], { detach: true });
  await refused[Symbol.asyncDispose]();
  assert.equal((await refused.result()).kind, "refused");
});

broken("process that is not there is refused", async (client) => {
  const result = await client.attach("019abf7d-51f3-7c2a-9d50-3c1f6d2b7a10").result();
  assert.equal(result.kind, "refused");
  assert.match(result.message!, /there is no process/);
});

broken("cancel that was lost with its connection is repeated", async (client, proxy) => {
  const events: string[] = [];
  const call = client.call("grind", [], { detach: true, reconnect, onEvent: ({ type }) => events.push(type) });
  await call.started;
  proxy.swallows = true;
  call.cancel();
  proxy.breakAll();
  proxy.swallows = false;
  const result = await call.result();
  assert.deepEqual([result.reason, events.filter((type) => type === "cancelling").length], ["client", 1]);
});
