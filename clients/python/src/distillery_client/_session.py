"""One call over any number of connections: which message opens each of them, and what the frames of the server mean at
the position that was reached. A state machine without sockets or clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ._messages import (
    Data,
    Frame,
    Message,
    Result,
    StreamName,
    Ticket,
    attach_message,
    call_message,
    decode,
    result_of,
)
from .errors import ProtocolError


@dataclass(frozen=True)
class CallStart:
    """A session that begins with a call."""

    call: str
    params: Sequence[str]
    detach: bool | None = None


@dataclass(frozen=True)
class Piece:
    """Output that follows what came before."""

    stream: StreamName
    bytes: bytes


@dataclass(frozen=True)
class Gap:
    """Output that is no longer kept."""

    stream: StreamName
    start: int
    stop: int


@dataclass(frozen=True)
class Told:
    """Any other message."""

    message: Message


@dataclass(frozen=True)
class Ended:
    result: Result


@dataclass(frozen=True)
class Detached:
    pass


@dataclass(frozen=True)
class Refused:
    """The server refuses this connection. The process can still run."""

    message: str


Step = Piece | Gap | Told | Ended | Detached | Refused


class Session:
    def __init__(self, start: CallStart | Ticket) -> None:
        self._start = start
        # Whether the server has said that the process runs.
        self._known = False
        # Whether a new connection can continue with the process.
        self.kept = isinstance(start, Ticket)
        self.id: str | None = None
        self.key: str | None = None
        # The offset of the next byte. None until the server says where the output begins.
        self._positions: dict[StreamName, int | None] = {"stdout": 0, "stderr": 0}
        if isinstance(start, Ticket):
            self.id, self.key = start.id, start.key
            self._positions = {"stdout": start.stdout, "stderr": start.stderr}

    @property
    def detaches(self) -> bool:
        """Whether the process goes on without a client, or will once it has started."""
        start = self._start
        return self.kept or (not self._known and isinstance(start, CallStart) and start.detach is True)

    def open(self) -> str:
        """Returns the first frame of a connection."""
        if self.id is None and isinstance(self._start, CallStart):
            return call_message(self._start.call, self._start.params, self._start.detach)
        return attach_message(self.ticket(self._positions["stdout"], self._positions["stderr"]))

    def ticket(self, stdout: int | None = None, stderr: int | None = None) -> Ticket:
        """Returns a ticket with these positions."""
        return Ticket(self.id or "", self.key, stdout, stderr)

    def on(self, frame: Frame) -> Step | None:
        """Takes a frame of the server."""
        event = decode(frame)
        if event is None:
            return None
        if isinstance(event, Data):
            return self._on_data(event.stream, event.offset, event.bytes)
        kind = event["type"]
        if kind == "started":
            self._known = True
            self.kept = event["kept"]
            self.id, self.key = event["id"], event.get("key")
        elif kind == "attached":
            self._known = True
            for stream, position in self._positions.items():
                if position is None:
                    self._positions[stream] = event[stream]["from"]
        elif kind == "lost":
            return self._on_lost(event["stream"], event["from"], event["to"])
        elif kind == "detached":
            return Detached()
        elif kind == "ended":
            result = result_of(event["outcome"])
            # A process that was started cannot be refused any more: the server means this connection.
            if result.kind == "refused" and self._known:
                return Refused(result.message or "refused")
            return Ended(result)
        return Told(event)

    def _on_data(self, stream: StreamName, offset: int, data: bytes) -> Step | None:
        known = self._positions[stream]
        position = offset if known is None else known
        if offset > position:
            raise ProtocolError(f"{stream} from {offset} on instead of {position}")
        end = offset + len(data)
        if end <= position:
            return None
        self._positions[stream] = end
        return Piece(stream, data[position - offset :])

    def _on_lost(self, stream: StreamName, start: int, stop: int) -> Step | None:
        known = self._positions[stream]
        position = start if known is None else known
        if stop <= position:
            return None
        self._positions[stream] = stop
        return Gap(stream, position, stop)
