"""One output stream of a process, as its reader sees it: bytes, text or lines, in bounded memory. Knows no sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ._messages import StreamName
from ._text import decode_text, unfinished
from .errors import DistilleryError, OutputLostError

T = TypeVar("T")

# The bytes that wait for a reader before the process has to wait.
BUFFER = 1 << 20
# The longest line.
LINE = 64 << 20


class Reader(Generic[T]):
    """An asynchronous iterator over an output. A stream has one at a time."""

    def __init__(self, output: Output, read: Callable[[], Awaitable[T | None]]) -> None:
        self._output = output
        self._read = read

    def __aiter__(self) -> Reader[T]:
        return self

    async def __anext__(self) -> T:
        output = self._output
        if output._reader is None:
            output._reader = id(self)
        elif output._reader != id(self):
            raise DistilleryError(f"{output.name} is being read already: read it in one place")
        try:
            item = await self._read()
        except BaseException:
            self.close()
            raise
        if item is None:
            self.close()
            raise StopAsyncIteration
        return item

    def close(self) -> None:
        """Lets another reader read on."""
        if self._output._reader == id(self):
            self._output._reader = None

    def __del__(self) -> None:
        self.close()


class Output:
    """Output of a process. It can be read once; iterate over it for its bytes."""

    def __init__(self, name: StreamName, on_room: Callable[[], None], drops: bool) -> None:
        """`on_room` is called when a full output has room again. Output that `drops` never makes the process wait."""
        self.name = name
        self._on_room = on_room
        # Whether the oldest bytes are dropped while there is no reader.
        self._dropping = drops
        # Bytes in order, and gaps between them.
        self._items: deque[bytes | range] = deque()
        self._buffered = 0
        self._position: int | None = None
        self._ended = False
        self._failure: BaseException | None = None
        self._reader: int | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def position(self) -> int | None:
        """The offset of the next byte that a reader gets."""
        return self._position

    @property
    def buffered(self) -> int:
        """The number of bytes that wait for the reader."""
        return self._buffered

    def __aiter__(self) -> Reader[bytes]:
        return self.bytes()

    def bytes(self) -> Reader[bytes]:
        """Iterates over the bytes, in pieces as they arrive."""
        return Reader(self, self._next_piece)

    def text(self) -> Reader[str]:
        """Iterates over the text as it arrives: also the line of a prompt, which has no end yet."""
        return Reader(self, self._next_text)

    def lines(self) -> Reader[str]:
        """Iterates over the lines, without `\\n` or `\\r\\n`."""
        return Reader(self, self._next_line)

    async def read(self) -> bytes:  # type: ignore[valid-type]
        """Reads everything to the end into memory."""
        return b"".join([piece async for piece in self.bytes()])

    async def read_text(self) -> str:
        """Reads everything to the end as text into memory."""
        return decode_text(await self.read())

    async def _next_piece(self) -> _Bytes | None:
        return self._take(1) if await self._some() else None

    async def _next_text(self) -> str | None:
        while await self._some():
            count = self._until_gap()
            data = b"".join(self._pieces(count))
            # Nothing completes a character at the end of the output or before a gap.
            complete = count < len(self._items) or self._ended
            whole = len(data) if complete else len(data) - unfinished(data)
            if whole > 0:
                self._take(count, data[whole:])
                return decode_text(data[:whole])
            await self._more()
        return None

    async def _next_line(self) -> str | None:
        # The number of pieces that have no line break.
        scanned = 0
        while await self._some():
            while scanned < len(self._items):
                piece = self._items[scanned]
                if isinstance(piece, range):
                    return _line(self._take(scanned))
                end = piece.find(b"\n")
                if end >= 0:
                    return _line(self._take(scanned + 1, piece[end + 1 :]))
                scanned += 1
            if self._ended:
                return _line(self._take(scanned))
            if self._buffered > LINE:
                raise DistilleryError(f"a line is longer than {LINE} bytes: read bytes instead")
            await self._more()
        return None

    def _until_gap(self) -> int:
        for at, item in enumerate(self._items):
            if isinstance(item, range):
                return at
        return len(self._items)

    def _pieces(self, count: int) -> list[_Bytes]:
        return [item for at, item in zip(range(count), self._items) if not isinstance(item, range)]

    async def _some(self) -> bool:
        """Waits until something can be read. Returns False at the end."""
        while not self._items:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return False
            await self._more()
        first = self._items[0]
        if isinstance(first, range):
            self._items.popleft()
            self._position = first.stop
            raise OutputLostError(self.name, first.start, first.stop)
        return True

    async def _more(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ended:
            return
        self._wake = asyncio.get_running_loop().create_future()
        self._on_room()
        try:
            await self._wake
        finally:
            self._wake = None

    def _take(self, count: int, rest: _Bytes = b"") -> _Bytes:
        """Takes the first pieces, and gives `rest` of them back."""
        was_full = self.is_full
        pieces = self._pieces(count)
        for _ in pieces:
            self._items.popleft()
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if rest:
            self._items.appendleft(rest)
            whole = whole[: -len(rest)]
        self._buffered -= len(whole)
        self._position = (self._position or 0) + len(whole)
        if was_full and not self.is_full:
            self._on_room()
        return whole

    @property
    def is_full(self) -> bool:
        """Whether the process has to wait for the reader."""
        dropped = self._dropping and self._reader is None
        is_open = not self._ended and self._failure is None
        return is_open and self._buffered >= BUFFER and self._wake is None and not dropped

    def _begin(self, position: int) -> None:
        """Sets the offset of the first byte, if it is not known."""
        if self._position is None:
            self._position = position

    def _push(self, data: _Bytes) -> None:
        if self._ended or self._failure is not None:
            return
        self._items.append(data)
        self._buffered += len(data)
        if self._dropping and self._reader is None:
            self._drop_oldest()
        self._wake_up()

    def _lose(self, start: int, stop: int) -> None:
        self._items.append(range(start, stop))
        self._wake_up()

    def _drop(self) -> None:
        """Drops the oldest bytes from now on, while there is no reader."""
        self._dropping = True
        if self._reader is None:
            self._drop_oldest()
        self._on_room()

    def _drop_oldest(self) -> None:
        """Replaces the oldest bytes by a gap."""
        start = stop = self._position or 0
        while self._buffered > BUFFER or (stop > start and self._items and isinstance(self._items[0], range)):
            first = self._items.popleft()
            if isinstance(first, range):
                stop = first.stop
            else:
                self._buffered -= len(first)
                stop += len(first)
        if stop > start:
            self._items.appendleft(range(start, stop))

    def _end(self, failure: BaseException | None = None) -> None:
        """Ends the output; an error follows what is buffered."""
        if self._ended or self._failure is not None:
            return
        self._ended = failure is None
        self._failure = failure
        self._wake_up()
        self._on_room()

    def _abandon(self, failure: BaseException) -> None:
        """Ends the output with an error, and forgets what was not read."""
        self._items.clear()
        self._buffered = 0
        self._end(failure)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


# Within the class `bytes` is a method.
_Bytes = bytes


def _line(data: bytes) -> str:
    if data.endswith(b"\n"):
        data = data[:-2] if data.endswith(b"\r\n") else data[:-1]
    return decode_text(data)
