// A hundred calls in parallel. One that fails does not end the others.
//
//     node parallel.js [COUNT]

import { Distillery } from "distillery-client";

// The server runs as many at a time as it has slots; this is the number that this client asks for.
const AT_ONCE = 50;

const count = Number(process.argv[2] ?? "100");
const server = Distillery.fromEnv();
const numbers = Array.from({ length: count }, (_, number) => number).values();
/** @type {unknown[]} */
const failures = [];

async function worker() {
  // All workers take from the same iterator.
  for (const number of numbers) {
    try {
      await server.run("echo", ["1"], { input: `call ${number}\n` });
    } catch (error) {
      failures.push(error);
    }
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, worker));
console.log(`${count - failures.length} of ${count} calls had success`);
if (failures.length > 0) throw failures[0];
