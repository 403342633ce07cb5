"""The library for programs that do not use asyncio: the same calls, driven by a thread in the background."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from os import PathLike
from types import TracebackType
from typing import Any, Generic, TypeVar

from ._call import AsyncCall
from ._client import AsyncDistillery, Peer, Ran, environment
from ._files import Input
from ._messages import Message, Result, Ticket
from ._output import Output as AsyncOutput
from ._output import Reader
from ._retry import Reconnect
from .errors import DistilleryError

T = TypeVar("T")


class Background:
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="distillery", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Waits for the result of a coroutine."""
        if threading.current_thread() is self._thread:
            work.close()
            raise DistilleryError("this waits for the server, and so does on_event: set a flag there instead")
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            # Such as an interrupt from the keyboard, or the end of the time.
            future.cancel()
            raise

    def do(self, work: Callable[[], T]) -> T:
        """Runs a function that waits for nothing."""
        if threading.current_thread() is self._thread:
            return work()

        async def in_loop() -> T:
            return work()

        return self.run(in_loop())

    def stop(self) -> None:
        self.run(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_tasks() -> None:
    """Ends what a program has left open, and closes its connections."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Items(Generic[T]):
    """An iterator over an output."""

    def __init__(self, background: Background, reader: Reader[T]) -> None:
        self._background = background
        self._reader = reader

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self._background.run(self._reader.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None


class Output:
    """Output of a process. It can be read once; iterate over it for its bytes."""

    def __init__(self, background: Background, output: AsyncOutput) -> None:
        self._background = background
        self._output = output

    def __iter__(self) -> Iterator[bytes]:
        return self.bytes()

    def bytes(self) -> Items[bytes]:
        """Iterates over the bytes, in pieces as they arrive."""
        return Items(self._background, self._output.bytes())

    def text(self) -> Items[str]:
        """Iterates over the text as it arrives: also the line of a prompt, which has no end yet."""
        return Items(self._background, self._output.text())

    def lines(self) -> Items[str]:
        """Iterates over the lines, without `\\n` or `\\r\\n`."""
        return Items(self._background, self._output.lines())

    def read(self) -> _Bytes:
        """Reads everything to the end into memory."""
        return self._background.run(self._output.read())

    def read_text(self) -> str:
        """Reads everything to the end as text into memory."""
        return self._background.run(self._output.read_text())

    @property
    def position(self) -> int | None:
        """The offset of the next byte that a reader gets."""
        return self._output.position


# Within the class `bytes` is a method.
_Bytes = bytes


class Call:
    """A running call. Iterate over it for the lines of its output, and leave its block to end it."""

    def __init__(self, background: Background, call: AsyncCall) -> None:
        self._background = background
        self._call = call
        self.name = call.name
        self.stdout = Output(background, call.stdout)
        self.stderr = Output(background, call.stderr)

    def __iter__(self) -> Iterator[str]:
        """Iterates over the lines of stdout, without their terminators."""
        return self.stdout.lines()

    def started(self) -> Ticket:
        """Waits until the process has started, and returns its identifier."""
        return self._background.run(self._call.started())

    @property
    def id(self) -> str | None:
        """The identifier of the process, once it has started."""
        return self._call.id

    @property
    def ticket(self) -> Ticket | None:
        """The process and the position of its readers, if it is detached: `attach` continues there."""
        return self._call.ticket

    def write(self, data: str | bytes) -> None:
        """Sends input. Returns when the network has taken it, so that input waits for a slow process."""
        self._background.run(self._call.write(data))

    def end(self) -> None:
        """Ends the input, after all that was written."""
        self._background.run(self._call.end())

    def send(self, input: Input) -> None:
        """Sends all of a file, an iterable, text or bytes, and ends the input."""
        self._background.run(self._call.send(input))

    def flush(self) -> None:
        """Waits until the server has certainly received all input that was sent."""
        self._background.run(self._call.flush())

    def cancel(self, *, force: bool = False) -> None:
        """Tells the process to stop.

        It has its grace period, its last output still comes, and then the result. With `force`, or when called again,
        it has no grace period.
        """
        self._background.do(lambda: self._call.cancel(force=force))

    def detach(self) -> Ticket:
        """Leaves a detached process running, and returns the ticket to continue at the first byte that was not read."""
        return self._background.run(self._call.detach())

    def result(self, timeout: float | None = None) -> Result:
        """Waits for the end, and returns how the process ended, also without success.

        Output without a reader is dropped beyond 1 MiB.

        Raises TimeoutError after `timeout` seconds; the process runs on.
        """
        return self._background.run(self._call.result(), timeout)

    def value(self) -> Any:
        """Returns the value that the call set. Raises a CallFailedError if the call had no success."""
        return self._background.run(self._call.value())

    def save(self, path: str | PathLike[str]) -> None:
        """Writes stdout into a file, which is there only if all of it arrived."""
        self._background.run(self._call.save(path))

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves a detached process running, and cancels any other."""
        self._background.run(self._call.__aexit__(kind, error, trace))


class Distillery:
    """A server and the credential for it. It can be used by several threads."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        insecure: bool = False,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """`insecure` sends the token without TLS. `ssl` trusts a certificate authority of your own."""
        self.api = Peer.of(url, token, insecure, ssl).api()
        self._client = AsyncDistillery(url, token=token, insecure=insecure, ssl=ssl)
        self._lock = threading.Lock()
        self._thread: Background | None = None

    @classmethod
    def from_env(cls, *, insecure: bool = False, ssl: ssl.SSLContext | None = None) -> Distillery:
        """Takes what the command line takes: DISTILLERY_URL, and DISTILLERY_TOKEN or DISTILLERY_TOKEN_FILE."""
        url, token = environment()
        return cls(url, token=token, insecure=insecure, ssl=ssl)

    @property
    def _background(self) -> Background:
        """Programs that only ask the API need no thread."""
        with self._lock:
            if self._thread is None:
                self._thread = Background()
            return self._thread

    def call(
        self,
        name: str,
        *params: str,
        input: Input | None = None,
        detach: bool | None = None,
        reconnect: Reconnect | None = None,
        on_event: Callable[[Message], None] | None = None,
    ) -> Call:
        """Starts a call.

        `input` is sent, and then ends; without it input stays open for `write`. With `detach` the process goes on when
        its client is gone, and a lost connection is opened again as `reconnect` says; by default its manifest decides.
        `on_event` is called with each message of the server, and with `{"type": "reconnecting"}`, in another thread.
        """
        background = self._background
        start = lambda: self._client.call(  # noqa: E731
            name, *params, input=input, detach=detach, reconnect=reconnect, on_event=on_event
        )
        return Call(background, background.do(start))

    def attach(
        self,
        process: str | Ticket,
        *,
        input: Input | None = None,
        reconnect: Reconnect | None = None,
        on_event: Callable[[Message], None] | None = None,
    ) -> Call:
        """Continues with a detached process, by its identifier or the ticket that a call gave."""
        background = self._background
        start = lambda: self._client.attach(process, input=input, reconnect=reconnect, on_event=on_event)  # noqa: E731
        return Call(background, background.do(start))

    def run(
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
        that reads to the end. After `timeout` seconds the call is cancelled, and TimeoutError is raised.
        """
        work = self._client.run(
            name, *params, input=input, detach=detach, reconnect=reconnect, on_event=on_event, timeout=timeout
        )
        return self._background.run(work)

    def close(self) -> None:
        """Ends the thread. Calls end with their blocks."""
        with self._lock:
            background, self._thread = self._thread, None
        if background is not None:
            background.stop()

    def __enter__(self) -> Distillery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
