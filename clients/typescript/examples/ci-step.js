// A step of a CI job: runs a call, prints its output into the log of the job, and fails if the call does.
//
//     node ci-step.js NAME [PARAM ...]
//
// DISTILLERY_URL and DISTILLERY_TOKEN say where and as whom. The job can be cancelled: the call gets its grace period. If
// the variable GITHUB_OUTPUT is set, the value of the call is added to that file as `value`.

import { appendFileSync } from "node:fs";
import { Distillery } from "distillery-client";

const [name, ...params] = process.argv.slice(2);
if (name === undefined) throw new TypeError("usage: node ci-step.js NAME [PARAM ...]");
// A job waits for minutes: a lost connection must not end it.
const call = Distillery.fromEnv().call(name, params, { detach: true });
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => call.cancel());
for await (const line of call) console.log(line);
const result = await call.result();
const { GITHUB_OUTPUT: file } = process.env;
if (file) appendFileSync(file, `value=${JSON.stringify(result.value)}\n`);
if (!result.success) {
  console.log(`::error::${result.message}`);
  // The status of the process, if it has one.
  process.exitCode = result.status ?? 1;
}
