"""A step of a CI job: runs a call, prints its output into the log of the job, and fails if the call does.

    ci_step.py NAME [PARAM ...]

DISTILLERY_URL and DISTILLERY_TOKEN say where and as whom. The job can be cancelled: the call gets its grace period. If
the variable GITHUB_OUTPUT is set, the value of the call is added to that file as `value`.
"""

import json
import os
import signal
import sys

from distillery_client import Distillery, DistilleryError


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    # A job waits for minutes: a lost connection must not end it.
    with Distillery.from_env() as server, server.call(*sys.argv[1:], detach=True) as call:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: call.cancel())
        for line in call:
            print(line, flush=True)
        result = call.result()
    if path := os.environ.get("GITHUB_OUTPUT"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"value={json.dumps(result.value)}\n")
    if not result.success:
        print(f"::error::{result.message}")
        # The status of the process, if it has one.
        sys.exit(result.status or 1)


if __name__ == "__main__":
    try:
        main()
    except DistilleryError as error:
        sys.exit(str(error))
