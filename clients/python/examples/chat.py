"""A conversation in the terminal: prints what the call says, and sends what you type.

    chat.py NAME [PARAM ...]

Ctrl-C cancels the call, and a second one forces its end.
"""

import signal
import sys

from distillery_client import Distillery, DistilleryError


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with Distillery.from_env() as server, server.call(*sys.argv[1:], input=sys.stdin) as call:
        signal.signal(signal.SIGINT, lambda *_: call.cancel())
        # In pieces, and not in lines: a prompt has no line end.
        for text in call.stdout.text():
            print(text, end="", flush=True)
        result = call.result()
    if not result.success:
        sys.exit(result.message)


if __name__ == "__main__":
    try:
        main()
    except DistilleryError as error:
        sys.exit(str(error))
