"""A file in and a file out: sends a file to a call, and writes its output into another one.

    files.py FROM TO [NAME [PARAM ...]]

The call is `echo` unless you name one. Both files can be larger than the memory.
"""

import sys
from pathlib import Path

from distillery_client import Distillery, DistilleryError


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    source, target, *call = sys.argv[1:]
    with Distillery.from_env() as server, server.call(*(call or ["echo"]), input=Path(source)) as running:
        running.save(target)
        result = running.result()
    if not result.success:
        # What a failed call wrote is no result.
        Path(target).unlink()
        sys.exit(result.message)


if __name__ == "__main__":
    try:
        main()
    except (DistilleryError, OSError) as error:
        sys.exit(str(error))
