"""A progress bar: countdown prints a number for each step, and the bar grows with it.

    progress.py [FROM]
"""

import sys

from distillery_client import Distillery, DistilleryError

WIDTH = 40


def draw(done, of):
    bar = "#" * (WIDTH * done // of)
    print(f"\r[{bar:{WIDTH}}] {100 * done // of:3} %", end="", flush=True)


def on_event(event):
    if event["type"] == "queued":
        print(f"waiting for a slot: position {event['position']}")


def main():
    start = sys.argv[1] if len(sys.argv) > 1 else "10"
    with Distillery.from_env() as server, server.call("countdown", start, on_event=on_event) as call:
        for line in call:
            left = int(line) if line.isdecimal() else 0
            draw(int(start) - left, int(start))
        print()
        if not call.result().success:
            sys.exit(call.result().message)


if __name__ == "__main__":
    try:
        main()
    except DistilleryError as error:
        sys.exit(str(error))
