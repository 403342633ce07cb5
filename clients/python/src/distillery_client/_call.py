"""A running call: its output, its input, its cancel and its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from os import PathLike
from types import TracebackType
from typing import Any, Protocol, TypeVar

from ._files import Input, pieces, save
from ._link import Link, Open
from ._messages import CANCEL, DETACH, END, Message, Result, StreamName, Ticket
from ._output import Output, Reader
from ._retry import Reconnect
from ._session import CallStart, Detached, Ended, Gap, Piece, Session, Step, Told
from .errors import CallFailedError, ConnectionLostError, DetachedError, DistilleryError

T = TypeVar("T")

# The time that a cancel has to overtake the input before it.
CANCEL_PATIENCE = 2.0


class Canceller(Protocol):
    """Tells a process to stop with a request of its own."""

    def __call__(self, id: str, *, force: bool) -> Awaitable[object]: ...


@dataclass
class _Cancels:
    wanted: int = 0
    sent: int = 0
    seen: bool = False


class AsyncCall:
    """A running call. Iterate over it for the lines of its output, and leave its block to end it."""

    def __init__(
        self,
        name: str,
        start: CallStart | Ticket,
        open: Open,
        canceller: Canceller,
        *,
        input: Input | None,
        reconnect: Reconnect,
        on_event: Callable[[Message], None] | None,
    ) -> None:
        self.name = name
        # stderr has nothing, unless the manifest forwards it. Without a reader it never makes the process wait.
        self.stdout = Output("stdout", self._balance, drops=False)
        self.stderr = Output("stderr", self._balance, drops=True)
        self._canceller = canceller
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._session = Session(start)
        self._started: asyncio.Future[Ticket] = self._future()
        self._result: asyncio.Future[Result] = self._future()
        self._detached: asyncio.Future[None] = self._future()
        self._has_room = asyncio.Event()
        # Frames of input leave one after the other.
        self._turn = asyncio.Lock()
        self._cancels = _Cancels()
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        positions = (start.stdout, start.stderr) if isinstance(start, Ticket) else (0, 0)
        for output, position in zip((self.stdout, self.stderr), positions):
            if position is not None:
                output._begin(position)
        self._link = Link(self._session, open, reconnect, self)
        self._link.start()
        # A process that has ended does not wait for its input.
        self._sending = None if input is None else self._spawn(self._send_given(input))

    def _future(self) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        # It does not need a reader: asyncio would report an unread error.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        # A task that nothing refers to can vanish.
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __aiter__(self) -> Reader[str]:
        """Iterates over the lines of stdout, without their terminators."""
        return self.stdout.lines()

    async def started(self) -> Ticket:
        """Waits until the process has started, and returns its identifier."""
        return await asyncio.shield(self._started)

    @property
    def id(self) -> str | None:
        """The identifier of the process, once it has started."""
        return self._session.id

    @property
    def ticket(self) -> Ticket | None:
        """The process and the position of its readers, if it is detached: `attach` continues there."""
        return self.current_ticket() if self._session.kept else None

    async def write(self, data: str | bytes) -> None:
        """Sends input. Returns when the network has taken it, so that input waits for a slow process."""
        async with self._turn:
            async for piece in pieces(data):
                await self._link.input(piece)

    async def end(self) -> None:
        """Ends the input, after all that was written."""
        async with self._turn:
            await self._link.input(END)

    async def send(self, input: Input) -> None:
        """Sends all of a file, an iterable, text or bytes, and ends the input."""
        async with self._turn:
            async for piece in pieces(input):
                await self._link.input(piece)
            await self._link.input(END)

    async def flush(self) -> None:
        """Waits until the server has certainly received all input that was sent."""
        async with self._turn:
            await self._link.flush()

    async def _send_given(self, input: Input) -> None:
        try:
            await self.send(input)
        except Exception as error:
            # A process that ends does not need the rest of its input. Without its whole input it must not succeed.
            if not self._link.is_over:
                self.cancel()
                self._fail(error)

    def cancel(self, *, force: bool = False) -> None:
        """Tells the process to stop.

        It has its grace period, its last output still comes, and then the result. With `force`, or when called again,
        it has no grace period.
        """
        self._cancels.wanted = 2 if force else min(2, self._cancels.wanted + 1)
        self._send_cancels()

    def _send_cancels(self) -> None:
        cancels = self._cancels
        while cancels.sent < cancels.wanted and self._link.control(CANCEL):
            cancels.sent += 1
        if cancels.sent > 0 and not self._link.is_over:
            force = cancels.sent == 2
            self._timers.append(self._loop.call_later(CANCEL_PATIENCE, self._cancel_apart, force))

    def _cancel_apart(self, force: bool) -> None:
        """Cancels with a request: the message can wait behind input that the process does not read."""
        if self.id is not None and (force or not self._cancels.seen):
            self._spawn(_ignore_errors(self._canceller(self.id, force=force)))

    async def _repeat_cancels(self) -> None:
        """Sends a cancel again that was lost with a connection. The server says at once whether it has it."""
        if self._cancels.sent == 0:
            return
        await self._link.round_trip()
        if not self._cancels.seen and not self._link.is_over:
            self._cancels.sent = 0
            self._send_cancels()

    async def detach(self) -> Ticket:
        """Leaves a detached process running, and returns the ticket to continue at the first byte that was not read."""
        if not self._link.is_over:
            await self.started()
            if not self._session.kept:
                raise DistilleryError("the call is not detached: call it with detach=True")
            ticket = self.current_ticket()
            # The next client reads what was not read here.
            error = DetachedError(ticket)
            self.stdout._abandon(error)
            self.stderr._abandon(error)
            self._end(error)
            if self._link.control(DETACH):
                await asyncio.shield(self._detached)
            else:
                self._link.close()
            return ticket
        if self.ticket is None:
            raise DistilleryError("the call has ended, and its process is not kept")
        return self.ticket

    async def result(self) -> Result:
        """Waits for the end, and returns how the process ended, also without success.

        Output without a reader is dropped beyond 1 MiB.
        """
        self.stdout._drop()
        return await asyncio.shield(self._result)

    async def value(self) -> Any:
        """Returns the value that the call set. Raises a CallFailedError if the call had no success."""
        result = await self.result()
        if not result.success:
            raise CallFailedError(self.name, result)
        return result.value

    async def save(self, path: str | PathLike[str]) -> None:
        """Writes stdout into a file, which is there only if all of it arrived."""
        await save(self.stdout, path)

    async def __aenter__(self) -> AsyncCall:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves a detached process running, and cancels any other."""
        await self._leave(detach=self._session.detaches)

    async def _leave(self, *, detach: bool) -> None:
        """Ends this client of the process, and the process as well unless it is detached."""
        try:
            if self._link.is_over:
                pass
            elif detach:
                await self.detach()
            else:
                self.cancel()
                await self.result()
        except DistilleryError:
            # The connection is lost, or nothing was started: nothing is left to end.
            pass
        await self._link.closed()

    def on_step(self, step: Step) -> None:
        if isinstance(step, Piece):
            self._output(step.stream)._push(step.bytes)
        elif isinstance(step, Gap):
            self._output(step.stream)._lose(step.start, step.stop)
            self._tell({"type": "lost", "stream": step.stream, "from": step.start, "to": step.stop})
        elif isinstance(step, Told):
            self._on_message(step.message)
        elif isinstance(step, Ended):
            self._on_end(step.result)
        elif isinstance(step, Detached):
            _set(self._detached, None)
        else:
            _set(self._detached, None)
            self._fail(ConnectionLostError(f"the server ended the connection: {step.message}", self.ticket))

    def _on_message(self, message: Message) -> None:
        kind = message["type"]
        if kind == "attached":
            self.stdout._begin(message["stdout"]["from"])
            self.stderr._begin(message["stderr"]["from"])
            self._spawn(self._repeat_cancels())
        if kind in ("started", "attached"):
            _set(self._started, self._session.ticket())
        if kind == "cancelling":
            self._cancels.seen = True
        self._tell(message)

    def _on_end(self, result: Result) -> None:
        self._clear()
        _set(self._detached, None)
        _refuse(self._started, CallFailedError(self.name, result))
        self.stdout._end()
        self.stderr._end()
        _set(self._result, result)
        self._tell({"type": "ended", "outcome": result.__dict__})

    def on_opened(self) -> None:
        self._send_cancels()

    def on_reconnecting(self, attempt: int, delay: float, why: str) -> None:
        self._tell({"type": "reconnecting", "attempt": attempt, "delay": delay, "why": why})

    def on_failed(self, error: BaseException) -> None:
        self._end(error)

    def _fail(self, error: BaseException) -> None:
        self._link.close()
        self._end(error)

    def _end(self, error: BaseException) -> None:
        self._clear()
        _refuse(self._started, error)
        self.stdout._end(error)
        self.stderr._end(error)
        _refuse(self._result, error)

    def _clear(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._sending is not None and self._sending is not asyncio.current_task():
            self._sending.cancel()

    def current_ticket(self) -> Ticket:
        return self._session.ticket(self.stdout.position, self.stderr.position)

    def _output(self, stream: StreamName) -> Output:
        return self.stdout if stream == "stdout" else self.stderr

    def _balance(self) -> None:
        if not self.stdout.is_full and not self.stderr.is_full:
            self._has_room.set()

    async def room(self) -> None:
        """Waits for the readers of the output."""
        while self.stdout.is_full or self.stderr.is_full:
            self._has_room.clear()
            await self._has_room.wait()

    def _tell(self, event: Message) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:
            # It is an error of the program and not of the call.
            context = {"message": "on_event raised an error", "exception": error}
            self._loop.call_exception_handler(context)


def _set(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _refuse(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


async def _ignore_errors(work: Awaitable[object]) -> None:
    try:
        await work
    except DistilleryError:
        pass
