"""Runs a call and holds its conversation in this terminal.

    call.py ws://127.0.0.1:8080/api/v1/ws NAME [PARAM ...]

Lines of stdin go to the call, its output to stdout. Ctrl-C cancels it, a second one forces its end. $DISTILLERY_TOKEN says
for which user. Needs `pip install websockets`.
"""

import asyncio
import json
import os
import signal
import sys
import threading

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException


async def run(url, name, params):
    token = os.environ.get("DISTILLERY_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    result = None
    # A line of output can be as long as limits.line allows.
    async with connect(url, additional_headers=headers, max_size=None) as socket:
        loop = asyncio.get_running_loop()

        def cancel():
            loop.create_task(control(socket, {"signal": "cancel"}))

        loop.add_signal_handler(signal.SIGINT, cancel)
        await control(socket, {"call": name, "params": params})
        typing = asyncio.create_task(send_lines(socket))
        async for frame in socket:
            if isinstance(frame, str):
                print(frame, flush=True)
            else:
                result = json.loads(frame)
        typing.cancel()
    return result or {"success": False, "message": "the connection was lost"}


async def control(socket, message):
    """Control messages are binary frames."""
    await socket.send(json.dumps(message).encode())


async def send_lines(socket):
    """Sends each line of stdin as a text frame, no faster than the call reads."""
    lines = asyncio.Queue(maxsize=16)
    loop = asyncio.get_running_loop()

    def read():
        for line in sys.stdin:
            asyncio.run_coroutine_threadsafe(lines.put(line.rstrip("\n")), loop).result()

    # A daemon: the end of the call does not wait for the next line.
    threading.Thread(target=read, daemon=True).start()
    while True:
        await socket.send(await lines.get())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        outcome = asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except (OSError, WebSocketException) as error:
        sys.exit(str(error))
    if not outcome["success"]:
        sys.exit(outcome["message"])
