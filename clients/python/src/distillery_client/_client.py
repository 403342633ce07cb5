"""A server and the credential for it, for programs that use asyncio."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from ._address import Address, parse_address, parse_token
from ._api import Api, message_of
from ._async_api import AsyncApi
from ._call import AsyncCall
from ._files import Input
from ._messages import PROTOCOL, Message, Result, Ticket
from ._retry import Reconnect
from ._session import CallStart
from .errors import ApiError, CallFailedError, ConnectError, ProtocolError, api_failure

TIMEOUT = 30.0
# The largest message: a list of processes can be long.
LARGEST = 64 << 20
# Frames that wait in the library before the network has to wait.
WAITING = 16


@dataclass(frozen=True)
class Ran(Result):
    """What a call gave that was run to its end, with its whole output as text."""

    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True)
class Peer:
    """The checked form of what a client is made with."""

    address: Address
    token: str | None = field(repr=False)
    context: ssl.SSLContext | None

    @classmethod
    def of(cls, url: str, token: str | None, insecure: bool, context: ssl.SSLContext | None) -> Peer:
        address = parse_address(url)
        checked = None if token is None else parse_token(token)
        if checked is not None and not address.is_private and not insecure:
            raise ValueError("others on the network could read the token: use https, or pass insecure=True")
        return cls(address, checked, context)

    def api(self) -> Api:
        return Api(self.address.api, self.token, self.context)

    async def open(self) -> ClientConnection:
        """Opens a websocket."""
        url = self.address.socket
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        try:
            socket = await connect(
                url,
                subprotocols=[Subprotocol(PROTOCOL)],
                additional_headers=headers,
                ssl=self.context if url.startswith("wss:") else None,
                open_timeout=TIMEOUT,
                max_size=LARGEST,
                max_queue=WAITING,
                compression=None,
                # As with the requests of the API.
                proxy=None,
                # A paused connection answers no ping. `_link` asks for signs of life itself.
                ping_interval=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            raise ApiError(status, api_failure(status, message_of(bytes(error.response.body or b"")))) from error
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            why = str(error) or type(error).__name__
            raise ConnectError(f"cannot reach {url}: {why}: does the server run, and is its URL right?") from error
        if socket.subprotocol != PROTOCOL:
            await socket.close()
            raise ProtocolError(f"a handshake without {PROTOCOL}")
        return socket


def environment() -> tuple[str, str | None]:
    """Returns the URL and the token that the command line takes.

    They are in DISTILLERY_URL, and in DISTILLERY_TOKEN or the file that DISTILLERY_TOKEN_FILE names.
    """
    url, token = os.environ.get("DISTILLERY_URL"), os.environ.get("DISTILLERY_TOKEN")
    if not url:
        raise ValueError("DISTILLERY_URL is not set: set it to the URL of the server")
    file = os.environ.get("DISTILLERY_TOKEN_FILE")
    if not token and file:
        token = Path(file).read_text(encoding="utf-8")
    return url, token or None


def check_params(name: str, params: tuple[str, ...]) -> None:
    for number, param in enumerate(params, 1):
        if not isinstance(param, str):
            raise TypeError(f"parameter {number} of {name} is not a string: use str(value)")


class AsyncDistillery:
    """A server and the credential for it, for programs that use asyncio."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        insecure: bool = False,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """`insecure` sends the token without TLS. `ssl` trusts a certificate authority of your own."""
        self._peer = Peer.of(url, token, insecure, ssl)
        self.api = AsyncApi(self._peer.api())

    @classmethod
    def from_env(cls, *, insecure: bool = False, ssl: ssl.SSLContext | None = None) -> AsyncDistillery:
        """Takes what the command line takes: DISTILLERY_URL, and DISTILLERY_TOKEN or DISTILLERY_TOKEN_FILE."""
        url, token = environment()
        return cls(url, token=token, insecure=insecure, ssl=ssl)

    def call(
        self,
        name: str,
        *params: str,
        input: Input | None = None,
        detach: bool | None = None,
        reconnect: Reconnect | None = None,
        on_event: Callable[[Message], None] | None = None,
    ) -> AsyncCall:
        """Starts a call.

        `input` is sent, and then ends; without it input stays open for `write`. With `detach` the process goes on when
        its client is gone, and a lost connection is opened again as `reconnect` says; by default its manifest decides.
        `on_event` is called with each message of the server, and with `{"type": "reconnecting"}`.
        """
        check_params(name, params)
        return self._begin(name, CallStart(name, params, detach), input, reconnect, on_event)

    def attach(
        self,
        process: str | Ticket,
        *,
        input: Input | None = None,
        reconnect: Reconnect | None = None,
        on_event: Callable[[Message], None] | None = None,
    ) -> AsyncCall:
        """Continues with a detached process, by its identifier or the ticket that a call gave."""
        ticket = Ticket(process) if isinstance(process, str) else process
        return self._begin(ticket.id, ticket, input, reconnect, on_event)

    async def run(
        self,
        name: str,
        *params: str,
        input: Input | None = None,
        detach: bool | None = None,
        reconnect: Reconnect | None = None,
        on_event: Callable[[Message], None] | None = None,
        timeout: float | None = None,
    ) -> Ran:
        """Runs a call to its end, and returns its whole output.

        Raises a CallFailedError if it has no success. Input stays open unless there is an `input`: give "" to a call
        that reads to the end. After `timeout` seconds, or when the task is cancelled, the call is cancelled.
        """
        call = self.call(name, *params, input=input, detach=detach, reconnect=reconnect, on_event=on_event)
        try:
            async with asyncio.timeout(timeout):
                stdout, stderr, result = await asyncio.gather(
                    call.stdout.read_text(), call.stderr.read_text(), call.result()
                )
        finally:
            # Also a detached process: without its caller it has no purpose.
            await call._leave(detach=False)
        if not result.success:
            raise CallFailedError(name, result)
        return Ran(**result.__dict__, stdout=stdout, stderr=stderr)

    def _begin(
        self,
        name: str,
        start: CallStart | Ticket,
        input: Input | None,
        reconnect: Reconnect | None,
        on_event: Callable[[Message], None] | None,
    ) -> AsyncCall:
        return AsyncCall(
            name,
            start,
            self._peer.open,
            self.api.cancel_process,
            input=input,
            reconnect=reconnect or Reconnect(),
            on_event=on_event,
        )

    async def __aenter__(self) -> AsyncDistillery:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes nothing: each call has a connection of its own."""
