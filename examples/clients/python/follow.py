"""Starts a detached process and prints its output. Reconnects when the connection is lost, and misses no byte.

    follow.py ws://127.0.0.1:8080/api/v1/ws NAME [PARAM ...]

Speaks the subprotocol distillery-1. $DISTILLERY_TOKEN says for which user. Needs `pip install websockets`.
"""

import asyncio
import json
import os
import struct
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

STDOUT = 1
# In front of the bytes: the stream, and their offset in it.
HEAD = struct.Struct(">BQ")
ATTEMPTS = 30


async def follow(url, name, params):
    first = {"type": "call", "call": name, "params": params, "on_disconnect": "detach"}
    token = os.environ.get("DISTILLERY_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for _ in range(ATTEMPTS):
        try:
            async with connect(url, subprotocols=["distillery-1"], additional_headers=headers) as socket:
                await socket.send(json.dumps(first))
                async for frame in socket:
                    if isinstance(frame, bytes):
                        stream, offset = HEAD.unpack_from(frame)
                        if stream == STDOUT:
                            data = frame[HEAD.size :]
                            sys.stdout.buffer.write(data)
                            sys.stdout.buffer.flush()
                            first["stdout"] = offset + len(data)
                        continue
                    message = json.loads(frame)
                    if message["type"] == "started":
                        # From now on a new connection continues with this process. Anonymous clients need its key.
                        first = {"type": "attach", "id": message["id"], "stdout": 0}
                        if message.get("key"):
                            first["key"] = message["key"]
                    elif message["type"] == "lost":
                        print(f"lost: bytes {message['from']} to {message['to']}", file=sys.stderr)
                    elif message["type"] == "ended":
                        return message["outcome"]
        except (OSError, WebSocketException) as error:
            if first["type"] == "call":
                raise
            print(f"reconnecting: {error}", file=sys.stderr)
        await asyncio.sleep(1)
    sys.exit(f"no connection after {ATTEMPTS} attempts")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        outcome = asyncio.run(follow(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except (OSError, WebSocketException) as error:
        sys.exit(str(error))
    if not outcome["success"]:
        sys.exit(outcome["message"])
