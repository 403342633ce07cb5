"""What can be given to a process as its input, and where its output can go."""

from __future__ import annotations

import asyncio
import os
import queue
import select
import tempfile
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from io import TextIOWrapper
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

T = TypeVar("T")

# Text or bytes, the path of a file, a file that is open for reading, or an iterable of text or bytes.
Input = str | bytes | PathLike[str] | BinaryIO | TextIOWrapper | Iterable[str | bytes] | AsyncIterable[str | bytes]

# The largest frame that is sent; the server takes 1 MiB unless it is configured otherwise.
FRAME = 64 << 10


class Worker:
    """A thread that waits for what can block for ever, such as a terminal. The program can end without it."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="distillery input", daemon=True).start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    async def do(self, function: Callable[[], T]) -> T:
        """Returns the result of a function that runs in the thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                value = function()
            except BaseException as error:
                outcome = partial(_fail, future, error)
            else:
                outcome = partial(_succeed, future, value)
            try:
                loop.call_soon_threadsafe(outcome)
            except RuntimeError:
                # The program has ended its loop meanwhile.
                pass

        self._work.put(work)
        return await future

    def stop(self) -> None:
        self._work.put(None)


def _succeed(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


async def pieces(input: Input) -> AsyncIterator[bytes]:
    """Yields the input in pieces that fit into a frame."""
    if isinstance(input, (str, bytes, bytearray, memoryview)):
        for piece in _split(input):
            yield piece
    elif isinstance(input, AsyncIterable):
        async for part in input:
            for piece in _split(part):
                yield piece
    else:
        worker = Worker()
        try:
            async for part in _blocking_parts(input, worker):
                for piece in _split(part):
                    yield piece
        finally:
            worker.stop()


async def _blocking_parts(
    input: PathLike[str] | BinaryIO | TextIOWrapper | Iterable[str | bytes], worker: Worker
) -> AsyncIterator[str | bytes]:
    if isinstance(input, PathLike):
        with await worker.do(partial(open, input, "rb")) as file:
            while data := await worker.do(partial(file.read, FRAME)):
                yield data
    elif hasattr(input, "read"):
        read_some = _reader_of(cast(BinaryIO | TextIOWrapper, input))
        while part := await worker.do(read_some):
            yield part
    else:
        iterator = iter(input)
        while (item := await worker.do(partial(_next, iterator))) is not None:
            yield item


def _reader_of(file: BinaryIO | TextIOWrapper) -> Callable[[], bytes]:
    """Returns a function that gives what the file has, as a terminal does, and waits for some of it."""
    source: Any = file.buffer if isinstance(file, TextIOWrapper) else file
    read: Callable[[int], bytes] = getattr(source, "read1", source.read)
    try:
        number = source.fileno()
    except (AttributeError, OSError):
        return partial(read, FRAME)
    if os.name != "posix":
        return partial(read, FRAME)
    ready = select.poll()
    ready.register(number, select.POLLIN)

    def read_some() -> bytes:
        # A program cannot end while a thread is inside of `read` of its stdin. Files on a disk are always ready.
        ready.poll()
        return read(FRAME)

    return read_some


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
