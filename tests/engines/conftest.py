"""Every engine, with a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from app.log.commands.command import Command
from app.log.run import Run
from app.log.topic_log import Limits
from app.messages.lease import LeaseId
from app.messages.message import Message
from app.storage import clock
from app.storage.clock import LogClock
from app.storage.engine import Engine
from app.storage.memory import MemoryEngine
from app.storage.replicated.engine import ReplicatedEngine
from app.storage.sqlite.engine import SqliteEngine
from tests.engines.local_journal import LocalJournal, SharedLog
from tests.engines.three_nodes import ThreeNodes


class Clock(clock.Clock):
    """Time passes only when the test sets `now`, in Unix seconds. The wall clock is off by `wrong` seconds. `boot` is
    the id of the machine's boot; if it is empty, the uptime is unknown."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.wrong = 0.0
        self.boot = ""

    def wall(self) -> float:
        return self.now + self.wrong

    def steady(self) -> float:
        return self.now - 1_799_000_000.0

    def uptime(self) -> clock.Uptime | None:
        return clock.Uptime(self.boot, self.now - 1_799_500_000.0) if self.boot else None


class Opened:
    """An engine, and what it has delivered."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.delivered: list[Message] = []
        self.takers = 0  # the number of subscribers, which deliver() returns
        self.news = asyncio.Event()
        self.before_delivery: Callable[[], object] | None = None
        self.ended_leases: list[tuple[str, str, str]] = []
        self.readied: list[tuple[str, str]] = []

    def ready(self, topic: str, group: str) -> None:
        self.readied.append((topic, group))
        self.news.set()

    def on_lease_over(self, topic: str, group: str, lease: LeaseId) -> None:
        self.ended_leases.append((topic, group, str(lease)))

    def deliver(self, runs: Sequence[Run]) -> dict[int, int]:
        messages = [message for run in runs for message in run.messages]
        if messages and self.before_delivery:
            self.before_delivery()
        self.delivered += messages
        self.news.set()
        if not self.takers:
            return {}
        return {message.seq: 1 if message.delivery == "one" else self.takers for message in messages}


def slowly(ask: Callable[[], asyncio.Future[Any]]) -> asyncio.Future[Any]:
    """Ask after some turns of the event loop. The answer takes as many again."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def send() -> None:
        asked = ask()
        if asked.done():
            after(TURNS, receive, asked)
        else:
            asked.add_done_callback(receive)

    def receive(known: asyncio.Future[Any]) -> None:
        error = known.exception()
        if answer.cancelled():
            return
        if error is None:
            answer.set_result(known.result())
        else:
            answer.set_exception(error)

    after(TURNS, send)
    return answer


def after(turns: int, call: Callable[..., None], *args: Any) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(after, turns - 1, call, *args)
    else:
        call(*args)


TURNS: Final = 2  # of the event loop


class SlowEngine(MemoryEngine):
    """Answers later, as if a disk or another machine had to be asked."""

    def _do(self, command: Command) -> asyncio.Future[Any]:
        return slowly(partial(super()._do, command))

    def _ask(self, *question: Any, **options: Any) -> asyncio.Future[Any]:
        return slowly(partial(super()._ask, *question, **options))

    def _ask_in_slices(self, *question: Any, **options: Any) -> asyncio.Future[Any]:
        return slowly(partial(super()._ask_in_slices, *question, **options))


class DiskEngine(SqliteEngine):
    """On a temporary file."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._folder = TemporaryDirectory()
        super().__init__(limits, clock, Path(self._folder.name) / "log.db")

    async def close(self) -> None:
        await super().close()
        self._folder.cleanup()


class JournalEngine(ReplicatedEngine):
    """The only node on a journal in this process."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        super().__init__(limits, clock, LocalJournal(SharedLog(LogClock(clock).now)))


ENGINES: dict[str, Callable[[Limits, Clock], Engine]] = {
    "memory": MemoryEngine,
    "slow": SlowEngine,
    "sqlite": DiskEngine,
    "journal": JournalEngine,
    "journal of three": ThreeNodes,
}


def redis_engine(limits: Limits, clock: Clock) -> Engine:
    """The only node on a journal in Redis."""
    from tests.engines.redis_journal import clocked_journal  # of an extra that need not be here

    return ReplicatedEngine(limits, clock, clocked_journal(LogClock(clock).now))


def nats_engine(limits: Limits, clock: Clock) -> Engine:
    """The only node on a journal in JetStream."""
    from tests.engines.nats_journal import clocked_journal  # likewise

    return ReplicatedEngine(limits, clock, clocked_journal(LogClock(clock).now))


SERVED: Final[dict[str, Callable[[Limits, Clock], Engine]]] = {"redis": redis_engine, "nats": nats_engine}
"""Engines on a server. The tests that count the turns of the event loop cannot have them."""

NO_REDIS: Final = pytest.mark.skipif(
    which("redis-server") is None or find_spec("redis") is None, reason="redis-server or redis-py is not installed"
)

Make = Callable[[Limits], AbstractAsyncContextManager[Opened]]


def opener(engine: str) -> Make:
    @asynccontextmanager
    async def make(limits: Limits) -> AsyncIterator[Opened]:
        clock = Clock()
        node = Opened((ENGINES | SERVED)[engine](limits, clock), clock)
        await node.engine.open(node.deliver, node)
        try:
            yield node
        finally:
            await node.engine.close()

    return make


@pytest.fixture(params=[*ENGINES, pytest.param("redis", marks=NO_REDIS), "nats"])
def opened(request: pytest.FixtureRequest) -> Make:
    return opener(request.param)


def drafts_text(messages: Sequence[Message]) -> list[str]:
    return [message.data.decode() for message in messages]
