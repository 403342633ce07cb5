// A file in and a file out: sends a file to a call, and writes its output into another one.
//
//     node files.js FROM TO [NAME [PARAM ...]]
//
// The call is `echo` unless you name one. Both files can be larger than the memory.

import { createReadStream, createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { Distillery } from "distillery-client";

const [from, to, name = "echo", ...params] = process.argv.slice(2);
if (from === undefined || to === undefined) throw new TypeError("usage: node files.js FROM TO [NAME [PARAM ...]]");
const call = Distillery.fromEnv().call(name, params, { input: createReadStream(from) });
try {
  await pipeline(call.stdout, createWriteStream(to));
  await call.value();
} catch (error) {
  // What a failed call wrote is no result.
  await rm(to, { force: true });
  throw error;
}
