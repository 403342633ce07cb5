// A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.

/** Sends text at once: output is buffered otherwise. */
function say(text) {
  std.out.puts(text);
  std.out.flush();
}

/** The next line without its end, or null when the input has ended. */
function hear() {
  return std.in.getline();
}

/** Greets, and returns the exit status. */
function converse() {
  // A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
  // `cleanup: true` in plugin.yaml asks for that.
  const reason = std.getenv("DISTILLERY_CLEANUP");
  if (reason) {
    say(`cleaning up after: ${reason}\n`);
    return 0;
  }

  // The parameters of the call follow the script.
  let name = scriptArgs[1];
  if (name === undefined) {
    // A prompt needs no line break: it is sent when the program waits for input.
    say("What is your name? ");
    name = hear() ?? "";
  }
  say(`hello ${name}\n`);
  for (let line = hear(); line !== null; line = hear()) {
    if (line === "end") return 0;
    // A failure. What it had written to stderr would follow the status in the message.
    if (line === "fail") return 3;
    say(`echo: ${line}\n`);
  }

  // The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
  say("goodbye\n");
  return 0;
}

std.exit(converse());
