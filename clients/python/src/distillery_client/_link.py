"""The connections of one call: opens the first, opens another when one is lost, and knows how much of the input the
server certainly has. Knows the meaning of no output.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ._messages import LIST, Frame, Ticket
from ._retry import Reconnect, delay_of
from ._session import Detached, Ended, Refused, Session, Step, Told
from .errors import ApiError, CallEndedError, ConnectError, ConnectionLostError, InputLostError

Open = Callable[[], Awaitable[ClientConnection]]

# The silence after which the server is asked for a sign of life. Heartbeats come more often.
QUIET = 60.0
# The time that it has for the answer.
ANSWER = 20.0
# The interval of checks.
CHECK = 5.0
# The shortest time between two questions about the input.
PROBE = 1.0
# The time that the server has to answer a close frame.
CLOSE = 5.0


class Handlers(Protocol):
    """What the call is told of its connections."""

    def on_step(self, step: Step) -> None: ...
    def on_opened(self) -> None: ...
    def on_reconnecting(self, attempt: int, delay: float, why: str) -> None: ...
    def on_failed(self, error: BaseException) -> None: ...
    async def room(self) -> None: ...
    def current_ticket(self) -> Ticket: ...


@dataclass(frozen=True)
class Sent:
    """What was sent as input: bytes, and frames including the end."""

    bytes: int = 0
    frames: int = 0


@dataclass(eq=False)
class Trip:
    """Waits for the answer to a question that follows `frames` of input."""

    frames: int
    after: int
    done: asyncio.Future[None]


class Link:
    def __init__(self, session: Session, open: Open, policy: Reconnect, handlers: Handlers) -> None:
        self._session = session
        self._open = open
        self._policy = policy
        self._handlers = handlers
        self._socket: ClientConnection | None = None
        self.is_over = False
        self._failure: BaseException | None = None
        self._paused = False
        self._attempt = 0
        # Set when there is a connection, and at the end.
        self._ready = asyncio.Event()
        self._heard = 0.0
        self._sent = Sent()
        self._confirmed = Sent()
        # What was sent before the question that waits for an answer.
        self._asked: Sent | None = None
        self._asked_at = -PROBE
        self._asks = 0
        self._probing: asyncio.TimerHandle | None = None
        self._trips: list[Trip] = []
        self._controls: asyncio.Queue[str] = asyncio.Queue()
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # A task that nothing refers to can vanish.
        self._main: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._main = self._loop.create_task(self._run())

    async def _run(self) -> None:
        """Serves one connection after the other."""
        try:
            socket: ClientConnection | None = await self._open()
        except Exception as error:
            return self.fail(error)
        while socket is not None:
            why = await self._serve(socket)
            socket = None if self.is_over else await self._lost(why)

    async def _serve(self, socket: ClientConnection) -> str:
        """Uses a connection until it is lost or no longer needed, and returns the reason."""
        self._socket = socket
        self._heard = self._loop.time()
        self._asked = None
        # What was meant for the last connection is not for this one.
        self._controls = asyncio.Queue()
        work = [self._read(socket), self._send_controls(socket), self._watch(), self._until_over()]
        tasks = [self._loop.create_task(it) for it in work]
        try:
            await socket.send(self._session.open())
            self._handlers.on_opened()
            if self._trips:
                self._ask()
            self._ready.set()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        except ConnectionClosed as error:
            return _reason(error)
        except Exception as error:
            self.fail(error)
            return ""
        finally:
            self._socket = None
            if not self.is_over:
                self._ready.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _close(socket, self._controls)

    async def _until_over(self) -> str:
        await self._over.wait()
        return ""

    async def _read(self, socket: ClientConnection) -> str:
        while not self.is_over:
            try:
                frame = await socket.recv()
            except ConnectionClosed as error:
                return _reason(error)
            self._on_frame(frame)
            self._paused = True
            await self._handlers.room()
            self._paused = False
            self._heard = self._loop.time()
        return ""

    def _on_frame(self, frame: Frame) -> None:
        step = self._session.on(frame)
        if isinstance(step, Told):
            kind = step.message["type"]
            if kind == "processes":
                return self._on_answer()
            if kind == "attached":
                self._attempt = 0
            elif kind == "started":
                self._probe()
        elif isinstance(step, Ended | Detached | Refused):
            self.close()
        if step is not None:
            self._handlers.on_step(step)

    async def _send_controls(self, socket: ClientConnection) -> str:
        controls = self._controls
        while True:
            try:
                await socket.send(await controls.get())
            except ConnectionClosed as error:
                return _reason(error)

    def control(self, message: str) -> bool:
        """Sends a message, if there is a connection. It does not wait for input."""
        if self._socket is None or self.is_over:
            return False
        self._controls.put_nowait(message)
        return True

    async def input(self, frame: Frame) -> None:
        """Sends input, as soon as there is a connection that takes it."""
        while self._socket is None and not self.is_over:
            await self._ready.wait()
        if self._failure is not None:
            raise self._failure
        socket = self._socket
        if socket is None or self.is_over:
            raise CallEndedError
        size = 0 if isinstance(frame, str) else len(frame)
        self._sent = Sent(self._sent.bytes + size, self._sent.frames + 1)
        try:
            await socket.send(frame)
            # As long as the kernel takes every write at once, nothing else would have a turn.
            await asyncio.sleep(0)
        except ConnectionClosed:
            # The reader learns it as well, and knows what to do.
            return
        self._probe()

    async def flush(self) -> None:
        """Waits until the server has certainly received the input so far."""
        if self._sent.frames > self._confirmed.frames:
            await self.round_trip()
        if self._failure is not None:
            raise self._failure

    async def round_trip(self) -> None:
        """Waits until the server has answered a question that follows all that was sent, or until the end."""
        if self.is_over:
            return
        trip = Trip(self._sent.frames, self._asks + 1, self._loop.create_future())
        self._trips.append(trip)
        self._ask()
        await trip.done

    def _probe(self) -> None:
        """Asks at most once in a while. Only a kept process can need the answer."""
        if not self._session.kept or self._sent.frames <= self._confirmed.frames or self._probing is not None:
            return
        wait = self._asked_at + PROBE - self._loop.time()
        if wait <= 0:
            self._ask()
        else:
            self._probing = self._loop.call_later(wait, self._probe_later)

    def _probe_later(self) -> None:
        self._probing = None
        self._probe()

    def _ask(self) -> None:
        """Sends a question. The server reads frames in order: its answer confirms all input before."""
        if self._asked is not None or self._socket is None:
            return
        self._asked = self._sent
        self._asked_at = self._loop.time()
        self._asks += 1
        self.control(LIST)

    def _on_answer(self) -> None:
        self._confirmed = self._asked or self._confirmed
        self._asked = None
        for trip in self._trips[:]:
            if trip.frames <= self._confirmed.frames and trip.after <= self._asks:
                self._trips.remove(trip)
                _resolve(trip.done)
        if self._trips:
            self._ask()
        else:
            self._probe()

    async def _watch(self) -> str:
        """Returns when the server is silent for too long."""
        while True:
            await asyncio.sleep(CHECK)
            silence = self._loop.time() - self._heard
            # A socket that is not read has no news.
            if self._paused or silence < QUIET:
                continue
            if silence > QUIET + ANSWER:
                return f"the server was silent for {silence:.0f} s"
            self._ask()

    async def _lost(self, why: str) -> ClientConnection | None:
        """Opens another connection. None if there can be none."""
        if not self._session.kept:
            remedy = "pass detach=True to let it go on without a connection"
            said = f"the connection was lost ({why}), and the server cancels the call: {remedy}"
            self.fail(ConnectionLostError(said))
            return None
        if self._sent.frames > self._confirmed.frames:
            ticket = self._handlers.current_ticket()
            self.fail(InputLostError(self._confirmed.bytes, self._sent.bytes, ticket))
            return None
        while True:
            longest = delay_of(self._attempt, self._policy)
            if longest is None:
                said = f"the connection was lost ({why}), and not opened again in {self._attempt} attempts"
                remedy = "the process still runs: attach with the ticket of this error"
                self.fail(ConnectionLostError(f"{said}: {remedy}", self._handlers.current_ticket()))
                return None
            # Many clients of one server must not come back at the same moment.
            delay = longest * random.uniform(0.5, 1)
            self._attempt += 1
            self._handlers.on_reconnecting(self._attempt, delay, why)
            try:
                await asyncio.wait_for(self._over.wait(), delay)
                return None
            except TimeoutError:
                pass
            try:
                socket = await self._open()
                if not self.is_over:
                    return socket
                await _close(socket, asyncio.Queue())
                return None
            except Exception as error:
                if not _is_temporary(error):
                    self.fail(error)
                    return None
                why = str(error)

    def fail(self, error: BaseException) -> None:
        if self.is_over:
            return
        self._failure = error
        self.close()
        self._handlers.on_failed(error)

    def close(self) -> None:
        """Ends the link. Messages that wait still leave."""
        self.is_over = True
        if self._probing is not None:
            self._probing.cancel()
        for trip in self._trips:
            _resolve(trip.done)
        self._trips = []
        self._ready.set()
        self._over.set()

    async def closed(self) -> None:
        """Waits until the connection is closed."""
        if self._main is not None:
            await asyncio.wait([self._main])


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _close(socket: ClientConnection, controls: asyncio.Queue[str]) -> None:
    try:
        async with asyncio.timeout(CLOSE):
            while not controls.empty():
                await socket.send(controls.get_nowait())
            await socket.close()
    except (TimeoutError, ConnectionClosed, OSError):
        socket.transport.abort()


def _reason(error: ConnectionClosed) -> str:
    return "the connection ended" if error.rcvd is None else f"close code {error.rcvd.code}"


def _is_temporary(error: BaseException) -> bool:
    if isinstance(error, ApiError):
        return error.status >= 502 or error.status == 429
    return isinstance(error, ConnectError)
