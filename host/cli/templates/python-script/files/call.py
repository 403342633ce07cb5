# A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
import os
import sys


def hear():
    """The next line without its end, or None when the input has ended."""
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


# A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
# `cleanup: true` in plugin.yaml asks for that.
reason = os.getenv("DISTILLERY_CLEANUP")
if reason:
    print("cleaning up after:", reason)
    sys.exit()

# The parameters of the call follow the script.
if len(sys.argv) > 1:
    name = sys.argv[1]
else:
    # A prompt needs no line break: it is sent when the program waits for input.
    print("What is your name? ", end="", flush=True)
    name = hear() or ""
print("hello", name)
while (line := hear()) is not None:
    if line == "end":
        sys.exit()
    if line == "fail":
        # A failure. What it had written to stderr would follow the status in the message.
        sys.exit(3)
    print("echo:", line)

# The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
print("goodbye")
