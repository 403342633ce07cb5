// A conversation in the terminal: prints what the call says, and sends what you type.
//
//     node chat.js NAME [PARAM ...]
//
// Ctrl-C cancels the call, and a second one forces its end.

import { Distillery } from "distillery-client";

const [name, ...params] = process.argv.slice(2);
if (name === undefined) throw new TypeError("usage: node chat.js NAME [PARAM ...]");
const call = Distillery.fromEnv().call(name, params, { input: process.stdin });
process.on("SIGINT", () => call.cancel());
// In pieces, and not in lines: a prompt has no line end.
for await (const text of call.stdout.text()) process.stdout.write(text);
const result = await call.result();
if (!result.success) console.error(result.message);
// The terminal could still have input.
process.exit(result.success ? 0 : 1);
