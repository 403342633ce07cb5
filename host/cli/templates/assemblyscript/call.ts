// A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.

// A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
// plugin.yaml asks for that with `cleanup: true`.
if (process.env.has("DISTILLERY_CLEANUP")) {
  print("cleaning up after: " + process.env.get("DISTILLERY_CLEANUP"));
  process.exit(0);
}

const chunk = new ArrayBuffer(65536);
let got = 0; // how many bytes the chunk holds
let next = 0; // and how many of them are read

// Arguments: the call's own name, then its parameters.
let name = "";
if (process.argv.length > 1) {
  name = process.argv[1];
} else {
  // A prompt needs no line break: it is sent when the program waits for input.
  process.stdout.write("What is your name? ");
  const answer = hear();
  if (answer !== null) name = answer;
}
print("hello " + name);
for (let line = hear(); line !== null; line = hear()) {
  if (line == "end") process.exit(0);
  // A failure. What it had written to stderr would follow the status in the message.
  if (line == "fail") process.exit(3);
  print("echo: " + line);
}

// The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
print("goodbye");

/** Sends a line. */
function print(line: string): void {
  process.stdout.write(line + "\n");
}

/** The next line without its end, or null when the input has ended. */
function hear(): string | null {
  const line: u8[] = [];
  while (true) {
    if (next == got) {
      got = process.stdin.read(chunk);
      next = 0;
      if (got <= 0) return line.length ? decode(line) : null;
    }
    const byte = load<u8>(changetype<usize>(chunk) + next);
    next++;
    if (byte == 10) return decode(line);
    line.push(byte);
  }
}

function decode(line: u8[]): string {
  return String.UTF8.decodeUnsafe(line.dataStart, line.length);
}
