"""What the tests share: the server that they talk to, and a connection to it that can be broken."""

import asyncio
import json
import os
import socket
import struct
import unittest
from pathlib import Path
from urllib.parse import urlsplit

from distillery_client import AsyncDistillery, Reconnect

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text(encoding="utf-8"))

# The server of the live tests, which `tests/tests/client_libraries.rs` starts, and a token with all scopes.
URL = os.environ.get("DISTILLERY_TEST_URL", "")
TOKEN = os.environ.get("DISTILLERY_TEST_TOKEN", "")

live = unittest.skipIf(not URL, "DISTILLERY_TEST_URL is not set")

SOON = Reconnect(delay=0.01, max_delay=0.05)


class Proxy:
    """A proxy in front of the server, whose connections can be broken."""

    def __init__(self):
        # The number of connections so far.
        self.accepted = 0
        # Whether what clients send is dropped instead of passed on.
        self.swallows = False
        # Breaks each connection after this many bytes of the server.
        self.break_after = float("inf")
        self._writers = set()
        self._server = None

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self.stop()

    @property
    def url(self):
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    def client(self, **options):
        return AsyncDistillery(self.url, token=TOKEN, **options)

    async def _carry(self, reader, writer):
        self.accepted += 1
        target = urlsplit(URL)
        upstream, to_upstream = await asyncio.open_connection(target.hostname, target.port)
        self._writers |= {writer, to_upstream}
        await asyncio.gather(
            self._pass(reader, to_upstream, writer, from_client=True),
            self._pass(upstream, writer, to_upstream, from_client=False),
        )
        self._writers -= {writer, to_upstream}

    async def _pass(self, reader, writer, other, from_client):
        passed = 0
        try:
            while data := await reader.read(65536):
                if from_client and self.swallows:
                    continue
                writer.write(data)
                await writer.drain()
                passed += len(data)
                if not from_client and passed > self.break_after:
                    break
        except OSError:
            pass
        writer.close()
        other.close()

    def break_all(self):
        """Breaks all connections."""
        for writer in self._writers:
            # The other side gets a reset, as if a machine had gone.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    def stop(self):
        """Takes no connections any more, and breaks the present ones."""
        self._server.close()
        self.break_all()


class Events:
    """Collects the events of a call."""

    def __init__(self):
        self.kinds = []
        self._waiting = []

    def __call__(self, event):
        self.kinds.append(event["type"])
        for kind, future in self._waiting:
            if kind == event["type"] and not future.done():
                future.set_result(None)

    async def until(self, kind):
        if kind not in self.kinds:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((kind, future))
            await future


async def lines_of(call):
    return [line async for line in call]
