# Granted commands in Python: `granted NAME [PARAM=VALUE...]` copies the output of the command.
#
# Build it in a directory with this file and wit/: granted.wit, and below wit/deps the files of the repository's wit/.
# componentize-py -d wit -w granted componentize app -o granted.wasm
import sys

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import commands


class Run(exports.Run):
    def run(self) -> None:
        params = [tuple(argument.split("=", 1)) for argument in sys.argv[2:]]
        running = commands.start(sys.argv[1], params)
        with running.command as command, running.stdout as output:
            # It gets no input.
            with running.stdin:
                pass
            try:
                while True:
                    sys.stdout.buffer.write(output.blocking_read(4096))
            except Err:
                pass  # the end of the output
            with command.subscribe() as ended:
                ended.block()
            print(command.poll(), flush=True)
