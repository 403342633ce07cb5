"""What can be given to a process as its input, and where its output can go."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO, cast

# Text or bytes, the path of a file, a file that is open for reading bytes, or an iterable of text or bytes.
Input = str | bytes | PathLike[str] | BinaryIO | Iterable[str | bytes] | AsyncIterable[str | bytes]

# The largest frame that is sent; the server takes 1 MiB unless it is configured otherwise.
FRAME = 64 << 10


async def pieces(input: Input) -> AsyncIterator[bytes]:
    """Yields the input in pieces that fit into a frame."""
    if isinstance(input, PathLike):
        with await asyncio.to_thread(open, input, "rb") as file:
            async for piece in _read(file):
                yield piece
    elif isinstance(input, (str, bytes, bytearray, memoryview)):
        for piece in _split(input):
            yield piece
    elif hasattr(input, "read"):
        async for piece in _read(cast(BinaryIO, input)):
            yield piece
    elif isinstance(input, AsyncIterable):
        async for part in input:
            for piece in _split(part):
                yield piece
    else:
        iterator = iter(input)
        # It can block, as reading from a terminal does.
        while (item := await asyncio.to_thread(_next, iterator)) is not None:
            for piece in _split(item):
                yield piece


async def _read(file: BinaryIO) -> AsyncIterator[bytes]:
    # A file that is no disk gives what it has, as a terminal does.
    read = getattr(file, "read1", file.read)
    while data := await asyncio.to_thread(read, FRAME):
        for piece in _split(data):
            yield piece


def _next(iterator: Iterator[str | bytes]) -> str | bytes | None:
    return next(iterator, None)


def _split(part: str | bytes | bytearray | memoryview) -> Iterator[bytes]:
    if not isinstance(part, (str, bytes, bytearray, memoryview)):
        raise TypeError("input is text or bytes: encode other values first, such as with json.dumps")
    data = part.encode() if isinstance(part, str) else bytes(part)
    for at in range(0, len(data), FRAME):
        yield data[at : at + FRAME]


async def save(output: AsyncIterable[bytes], path: str | PathLike[str]) -> None:
    """Writes output into a file, which is there only if all of it arrived."""
    target = Path(path)
    handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            async for piece in output:
                await asyncio.to_thread(file.write, piece)
        # Temporary files are for their owner only, unlike others.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        await asyncio.to_thread(os.replace, name, target)
    except BaseException:
        os.unlink(name)
        raise
