// A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
import { getArguments, getEnvironment } from "wasi:cli/environment@0.2.12";
import { exitWithCode } from "wasi:cli/exit@0.2.12";
import { lines, print, write } from "./stdio";

export const run = {
  run(): void {
    // A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
    // plugin.yaml asks for that with `cleanup: true`.
    const reason = new Map(getEnvironment()).get("DISTILLERY_CLEANUP");
    if (reason) {
      print(`cleaning up after: ${reason}`);
      return;
    }

    // Arguments: the call's own name, then its parameters.
    let name: string | undefined = getArguments()[1];
    if (name === undefined) {
      // A prompt needs no line break: it is sent when the program waits for input.
      write("What is your name? ");
      name = lines.next().value ?? "";
    }
    print(`hello ${name}`);
    for (const line of lines) {
      if (line === "end") return;
      // A failure. What it had written to stderr would follow the status in the message.
      if (line === "fail") exitWithCode(3);
      print(`echo: ${line}`);
    }

    // The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
    print("goodbye");
  },
};
