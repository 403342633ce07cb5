// The examples, and the programs of the README, each run as its user would.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { live, server } from "./support.ts";

// From build/tests.
const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
const TIMEOUT = 60_000;

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program of Node. `until` is the output after which it gets a signal. */
async function run(
  args: string[],
  { input = "", interruptAt, env = {} }: { input?: string; interruptAt?: string; env?: Record<string, string> } = {},
): Promise<Ended> {
  const directory = await mkdtemp(join(tmpdir(), "distillery-"));
  const child = spawn(process.execPath, args, {
    cwd: directory,
    env: { ...process.env, DISTILLERY_URL: server.url, DISTILLERY_TOKEN: server.token, ...env },
    timeout: TIMEOUT,
  });
  const ended: Ended = { status: null, stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    ended.stdout += text;
    if (interruptAt !== undefined && ended.stdout.includes(interruptAt)) child.kill("SIGINT");
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (ended.stderr += text));
  child.stdin.on("error", () => {});
  // Input that ends would be the end of a call that waits for it.
  if (interruptAt === undefined) child.stdin.end(input);
  await new Promise((done) => child.on("close", (status) => done((ended.status = status))));
  child.stdin.destroy();
  return ended;
}

const example = (name: string) => join(PACKAGE, "examples", name);

test("chat is a conversation", live, async () => {
  const ended = await run([example("chat.js"), "ask"], { input: "Ada\n" });
  assert.deepEqual(ended, { status: 0, stdout: "What is your name? Hello, Ada!\n", stderr: "" });
  const failed = await run([example("chat.js"), "ask"], { input: "\n" });
  assert.deepEqual([failed.status, failed.stderr], [1, "exit status 2: a name is needed\n"]);
});

test("chat cancels on an interrupt", live, async () => {
  const ended = await run([example("chat.js"), "countdown", "60"], { interruptAt: "60\n" });
  assert.deepEqual([ended.stdout, ended.stderr], ["60\ncountdown stopped at 60\n", "cancelled by the client\n"]);
});

test("progress ends at 100 %", live, async () => {
  const { status, stdout } = await run([example("progress.js"), "2"]);
  assert.equal(status, 0);
  assert.deepEqual(stdout.match(/\d+ %/g), ["0 %", "50 %", "100 %"]);
});

test("files are sent and received, and a failed call leaves none", live, async () => {
  const directory = await mkdtemp(join(tmpdir(), "distillery-"));
  const [from, to] = [join(directory, "from"), join(directory, "to")];
  const content = new Uint8Array(1 << 20).map((_, at) => at % 251);
  await writeFile(from, content);
  assert.equal((await run([example("files.js"), from, to])).status, 0);
  assert.deepEqual(new Uint8Array(await readFile(to)), content);
  const failed = await run([example("files.js"), from, join(directory, "other"), "nowhere"]);
  assert.equal(failed.status, 1);
  assert.deepEqual((await readdir(directory)).sort(), ["from", "to"]);
});

test("a hundred calls have success", live, async () => {
  const ended = await run([example("parallel.js")]);
  assert.deepEqual(ended, { status: 0, stdout: "100 of 100 calls had success\n", stderr: "" });
});

test("step of a job has the output, the value and the status", live, async () => {
  const file = join(await mkdtemp(join(tmpdir(), "distillery-")), "output");
  const ended = await run([example("ci-step.js"), "assemble", "1"], { env: { GITHUB_OUTPUT: file } });
  assert.deepEqual([ended.status, ended.stdout], [0, "part 1 is on\n"]);
  assert.equal(await readFile(file, "utf8"), 'value={"parts":1}\n');
  const failed = await run([example("ci-step.js"), "echo", "many"]);
  assert.equal(failed.status, 1);
  assert.match(failed.stdout, /^::error::parameter "lines" does not match/);
  const cancelled = await run([example("ci-step.js"), "countdown", "60"], { interruptAt: "60\n" });
  assert.equal(cancelled.stdout, "60\ncountdown stopped at 60\n::error::cancelled by the client\n");
});

test("programs of the README run as they are", live, async () => {
  const readme = await readFile(join(PACKAGE, "README.md"), "utf8");
  const programs = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, program]) => program!);
  assert.ok(programs.length >= 6, `${programs.length}`);
  const ended = await Promise.all(
    programs.map(async (program, at) => {
      // Inside of the package its own name leads to it.
      const file = join(PACKAGE, "build", `readme-${at}.js`);
      await writeFile(file, program);
      return run([file]);
    }),
  );
  for (const [at, { status, stderr }] of ended.entries()) assert.equal(status, 0, `${programs[at]}\n${stderr}`);
  assert.match(ended[0]!.stdout, /^one\ntwo\n\n3\n2\n1\nliftoff\ntrue null\n$/);
  assert.equal(ended[1]!.stdout, "What is your name? Hello, Ada!\n");
});
