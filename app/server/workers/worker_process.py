"""A worker as the supervisor sees it: its process, and what it says."""

import asyncio
import multiprocessing
import signal
from asyncio import Future, get_running_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from socket import socketpair
from time import monotonic
from typing import Any, Final

from ...broker.siblings import Question
from ...errors import PlainmqError
from ...settings import Loaded
from ...telemetry.log import log_event
from ..banner import Started
from ..build import Sockets
from .channel import Channel
from .messages import Answer, Ask, Failed, FromWorker, Leaving, Ready, Reload, Stop, Tell, ToWorker
from .worker import HELD, Assignment, SharedFile, work

_SPAWN: Final = multiprocessing.get_context("spawn")  # the supervisor has threads, so it cannot fork


class WorkerNotStarted(PlainmqError):
    """`code`: that of the worker's error."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]


class WorkerProcess:
    """`ready` fails with WorkerNotStarted if the worker ends before it accepts connections."""

    def __init__(
        self, number: int, on_change: Callable[[], None], on_ask: Callable[["WorkerProcess", Ask], None]
    ) -> None:
        """`on_change` is called when the worker is ready and when it leaves."""
        loop = get_running_loop()
        self.number = number
        self.begun = monotonic()
        self.ready: Future[Started] = loop.create_future()
        self._leaving = False
        self._on_change = on_change
        self._on_ask = on_ask
        self._failed = Failed("internal_error", "")
        self._numbers = count()
        self._asked: dict[int, Future[bytes]] = {}

    async def start(self, loaded: Loaded, sockets: Sockets, turns: int, *, quiet: bool, begun: float) -> None:
        """As for Assignment."""
        ours, theirs = socketpair()
        assignment = Assignment(self.number, loaded, sockets, theirs, SharedFile(turns), quiet, begun)
        self._process = _SPAWN.Process(target=work, args=(assignment,), name=f"plainmq worker {self.number}")
        with theirs, _signals_held():
            self._process.start()
        self.pid = self._process.pid
        self._channel: Channel[ToWorker, FromWorker] = await Channel.open(ours, FromWorker)
        self._life = get_running_loop().create_task(self._live())

    @property
    def serves(self) -> bool:
        return self.can_answer and not self._leaving

    @property
    def can_answer(self) -> bool:
        return self.has_started and not self._life.done()

    @property
    def has_started(self) -> bool:
        return self.ready.done() and self.ready.exception() is None

    @property
    def failure(self) -> dict[str, Any]:
        """Why it has not started, or the signal that has ended it: fields of a log record."""
        status, failed = self._life.result(), self._failed
        name = signal.Signals(-status).name if status < 0 else None
        return {"signal": name} | ({"code": failed.code, "detail": failed.detail} if failed.detail else {})

    def send(self, message: ToWorker) -> None:
        if self.can_answer:
            self._channel.send(message)

    def tell(self, question: Question, about: bytes) -> "Future[bytes]":
        number, answer = next(self._numbers), get_running_loop().create_future()
        self._asked[number] = answer
        answer.add_done_callback(lambda _: self._asked.pop(number))
        self.send(Tell(number, question, about))
        return answer

    def stop(self) -> None:
        """Let it drain; one that has not started has nothing to drain."""
        if self.has_started:
            self.send(Stop())
        elif not self._life.done():
            self._process.terminate()

    def reload(self) -> None:
        self.send(Reload())

    async def wait(self) -> int:
        """The exit status of the process, or the number of the signal that has ended it, negative."""
        return await asyncio.shield(self._life)

    def kill(self) -> None:
        if not self._life.done():
            self._process.kill()

    async def _live(self) -> int:
        """Returns the exit status."""
        async for message in self._channel.messages():
            match message:
                case Ready():
                    log_event("worker started", worker=self.number, pid=self.pid)
                    self.ready.set_result(message.started)
                    self._on_change()
                case Failed():
                    self._failed = message
                case Leaving():
                    self._leaving = True
                    self._on_change()
                case Ask():
                    self._on_ask(self, message)
                case Answer():
                    if (asked := self._asked.get(message.number)) is not None:
                        asked.set_result(message.data)
        return await self._end()

    async def _end(self) -> int:
        await self._channel.close()
        await _readable(self._process.sentinel)
        self._process.join()
        for answer in [*self._asked.values()]:
            answer.cancel()
        status = self._process.exitcode or 0
        if not self.ready.done():
            detail = self._failed.detail or f"worker {self.number} has ended before it was ready (status {status})"
            self.ready.set_exception(WorkerNotStarted(self._failed.code, detail))
            self.ready.exception()  # it need not be asked for
        self._process.close()
        return status


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process that is started in the block gets them when it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _readable(file: int) -> None:
    loop, readable = get_running_loop(), asyncio.Event()
    loop.add_reader(file, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(file)
