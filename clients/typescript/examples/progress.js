// A progress bar: countdown prints a number for each step, and the bar grows with it.
//
//     node progress.js [FROM]

import { Distillery } from "distillery-client";

const WIDTH = 40;

const from = Number(process.argv[2] ?? "10");
const call = Distillery.fromEnv().call("countdown", [String(from)], {
  onEvent: (event) => {
    if (event.type === "queued") console.log(`waiting for a slot: position ${event.position}`);
  },
});
for await (const line of call) {
  const done = from - (/^\d+$/.test(line) ? Number(line) : 0);
  const bar = "#".repeat(Math.floor((WIDTH * done) / from)).padEnd(WIDTH);
  process.stdout.write(`\r[${bar}] ${String(Math.floor((100 * done) / from)).padStart(3)} %`);
}
console.log();
// Throws an error if the call failed.
await call.value();
