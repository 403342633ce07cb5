# A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
import io
import os
import sys

from wit_world import exports
from wit_world.imports import exit as wasi_exit

# All imports stand up here: modules are put into call.wasm when it is built, and cannot be found later.

# Without a buffer of its own a print of more than 64 KiB would be cut.
sys.stdout = io.TextIOWrapper(io.BufferedWriter(sys.stdout.buffer), encoding="utf-8")


class Run(exports.Run):
    def run(self) -> None:
        # A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
        # plugin.yaml asks for that with `cleanup: true`.
        reason = os.environ.get("DISTILLERY_CLEANUP")
        if reason:
            print(f"cleaning up after: {reason}", flush=True)
            return

        # Arguments: the call's own name, then its parameters.
        name = sys.argv[1] if len(sys.argv) > 1 else ask("What is your name? ")
        print(f"hello {name}", flush=True)
        for line in sys.stdin:
            line = line.rstrip("\n")
            if line == "end":
                return
            if line == "fail":
                # A failure. What it had written to stderr would follow the status in the message.
                sys.stdout.flush()
                wasi_exit.exit_with_code(3)
            print(f"echo: {line}", flush=True)

        # The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
        print("goodbye", flush=True)


def ask(question: str) -> str:
    """A prompt needs no line break: it is sent when the program waits for input."""
    print(question, end="", flush=True)
    return sys.stdin.readline().rstrip("\n")
