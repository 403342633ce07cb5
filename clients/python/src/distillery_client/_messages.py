"""The messages of `distillery-1`: text frames are JSON objects with a type, binary frames are bytes of a stream.

Knows no sockets.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import ProtocolError

# The subprotocol of the websocket.
PROTOCOL = "distillery-1"

StreamName = Literal["stdout", "stderr"]
# A message of the server, with the names of the wire.
Message = dict[str, Any]
Frame = str | bytes


@dataclass(frozen=True)
class Result:
    """How a process ended, or why a call was not started. Fields that do not apply are None."""

    success: bool
    # exited, trapped, cancelled, failed, or refused if nothing was started.
    kind: str
    # Why it is no success.
    message: str | None = None
    # The exit status.
    status: int | None = None
    # The reason of a cancel.
    reason: str | None = None
    # The strongest measure that was needed: told, interrupted or dropped.
    stop: str | None = None
    # done or failed.
    cleanup: str | None = None
    # The value that the call set.
    value: Any = None


@dataclass(frozen=True)
class Ticket:
    """A detached process and the position in its output. `dataclasses.asdict` makes it plain JSON, to store it."""

    id: str
    # The access key of a process without an owner. It is a secret.
    key: str | None = field(default=None, repr=False)
    # The offsets to continue at. Without them output begins with the oldest byte that is kept.
    stdout: int | None = None
    stderr: int | None = None


@dataclass(frozen=True)
class Data:
    """Bytes of a stream, and their offset in it."""

    stream: StreamName
    offset: int
    bytes: bytes


END = '{"type":"end"}'
CANCEL = '{"type":"cancel"}'
DETACH = '{"type":"detach"}'
LIST = '{"type":"list"}'


def call_message(call: str, params: Sequence[str], detach: bool | None) -> str:
    """Returns the message that starts a call. Without `detach` the manifest decides."""
    message: Message = {"type": "call", "call": call, "params": list(params)}
    if detach is not None:
        message["on_disconnect"] = "detach" if detach else "cancel"
    return json.dumps(message)


def attach_message(ticket: Ticket) -> str:
    """Returns the message that continues with a process."""
    fields = {"id": ticket.id, "key": ticket.key, "stdout": ticket.stdout, "stderr": ticket.stderr}
    return json.dumps({"type": "attach", **{name: value for name, value in fields.items() if value is not None}})


_STREAMS: dict[int, StreamName] = {1: "stdout", 2: "stderr"}
# The stream, and the offset.
_HEAD = struct.Struct(">BQ")
# The largest number that JSON carries exactly.
_LARGEST_OFFSET = 2**53 - 1


def decode(frame: Frame) -> Message | Data | None:
    """Reads a frame of the server. A message of a newer server is None."""
    return _decode_message(frame) if isinstance(frame, str) else _decode_data(frame)


def _decode_data(frame: bytes) -> Data:
    if len(frame) <= _HEAD.size:
        raise ProtocolError("a frame of data that is too short")
    number, offset = _HEAD.unpack_from(frame)
    stream = _STREAMS.get(number)
    if stream is None:
        raise ProtocolError("data of an unknown stream")
    if offset > _LARGEST_OFFSET:
        raise ProtocolError("an offset that is too large")
    return Data(stream, offset, bytes(frame[_HEAD.size :]))


def _string(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _range(value: Any) -> bool:
    return isinstance(value, dict) and _number(value.get("from")) and _number(value.get("to"))


def _stream(value: Any) -> bool:
    return value in ("stdout", "stderr")


def _outcome(value: Any) -> bool:
    return isinstance(value, dict) and _boolean(value.get("success")) and _string(value.get("kind"))


def _list(value: Any) -> bool:
    return isinstance(value, list)


# What each message must have at least.
_REQUIRED: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "queued": {"position": _number},
    "started": {"id": _string, "call": _string, "kept": _boolean},
    "attached": {"id": _string, "call": _string, "running": _boolean, "stdout": _range, "stderr": _range},
    "lost": {"stream": _stream, "from": _number, "to": _number},
    "heartbeat": {"elapsed_ms": _number},
    "cancelling": {"reason": _string},
    "processes": {"processes": _list},
    "detached": {},
    "ended": {"outcome": _outcome},
}


def _decode_message(text: str) -> Message | None:
    try:
        message = json.loads(text)
    except ValueError:
        raise ProtocolError("a message that is not JSON") from None
    except RecursionError:
        raise ProtocolError("a message that is nested too deeply") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("a message without a type")
    required = _REQUIRED.get(message["type"])
    if required is None:
        return None
    for name, holds in required.items():
        if not holds(message.get(name)):
            raise ProtocolError(f"a message of type {message['type']} without a proper {name}")
    return message


def result_of(outcome: Message) -> Result:
    """Returns an outcome without the fields of newer servers."""
    return Result(**{name: outcome.get(name) for name in Result.__dataclass_fields__})  # type: ignore[arg-type]
