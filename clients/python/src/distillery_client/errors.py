"""The errors of the library. Each says what is wrong, and then what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._messages import Result, StreamName, Ticket


class DistilleryError(Exception):
    """The base of all errors of this library."""


class ConnectError(DistilleryError):
    """The server cannot be reached."""


class ApiError(DistilleryError):
    """The server answered a request with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        # The HTTP status.
        self.status = status


class ProtocolError(DistilleryError):
    """The server sent something that the protocol does not have."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the server sent {what}: use the client of its release")


class CallEndedError(DistilleryError):
    """The call has ended, and takes no more input."""

    def __init__(self) -> None:
        super().__init__("the call has ended: it takes no more input")


class ConnectionLostError(DistilleryError):
    """The connection was lost, and the call cannot be continued automatically.

    `ticket` is the process, if it can still run: `attach` continues with it.
    """

    def __init__(self, message: str, ticket: Ticket | None = None) -> None:
        super().__init__(message)
        self.ticket = ticket


class InputLostError(ConnectionLostError):
    """The connection was lost while input was on its way: the process can have a part of it.

    `confirmed` is the number of bytes that the server has certainly received, and `sent` of those that were sent.
    """

    def __init__(self, confirmed: int, sent: int, ticket: Ticket) -> None:
        super().__init__(
            f"the connection was lost while input was on its way: the process has between {confirmed} and {sent} bytes "
            "of it. It still runs: attach with the ticket of this error to see its output, or cancel it and start "
            "again",
            ticket,
        )
        self.confirmed = confirmed
        self.sent = sent


class DetachedError(DistilleryError):
    """The client has detached from the call, which goes on."""

    def __init__(self, ticket: Ticket) -> None:
        super().__init__("the client has detached, and the process goes on: attach with the ticket of this error")
        self.ticket = ticket


class OutputLostError(DistilleryError):
    """Output that is no longer kept. The next read continues behind the gap.

    `start` is the offset of the first lost byte, and `stop` of the next byte that can be read.
    """

    def __init__(self, stream: StreamName, start: int, stop: int) -> None:
        super().__init__(
            f"the bytes {start} to {stop} of {stream} are lost: read faster, raise limits.kept_output, "
            "or read on to continue behind the gap"
        )
        self.stream = stream
        self.start = start
        self.stop = stop


class CallFailedError(DistilleryError):
    """The call ended without success, or was not started."""

    def __init__(self, call: str, result: Result) -> None:
        super().__init__(failure(call, result))
        self.result = result


def failure(call: str, result: Result) -> str:
    """Says how a call failed, and the remedy for a call that was not started."""
    message = result.message if result.message is not None else result.kind
    remedy = _remedy_of_refusal(message) if result.kind == "refused" else None
    said = f"call {json.dumps(call, ensure_ascii=False)} failed: {message}"
    return said if remedy is None else f"{said}: {remedy}"


def _remedy_of_refusal(message: str) -> str | None:
    for beginning, remedy in (
        ("unknown call ", "api.calls() lists the calls that you can run"),
        ("not authorized ", "use a token that has the scope of this call"),
        ("parameter ", "api.calls() lists the parameters and their rules"),
        ("too many ", "try again later"),
    ):
        if message.startswith(beginning):
            return remedy
    return None


def api_failure(status: int, message: str | None) -> str:
    """Says what an error answer means, with the remedy that the server does not know."""
    said = message if message is not None else f"the server answered with status {status}"
    if status == 401:
        return f"{said}: make a new token with `distillery token add`, and pass it as the option token"
    if status == 501:
        return f"{said}: the operator turns the API on with http.api: true"
    if status in (502, 503, 504):
        return f"{said}: try again later"
    return said
