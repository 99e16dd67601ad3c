"""Every engine, one after the other, on a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import Any, Final

import pytest

from app.engines.base import Engine
from app.engines.memory import MemoryEngine
from app.lease import LeaseId
from app.message import Message
from app.topiclog import Limits


class Clock:
    """Unix seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Opened:
    """An engine, and what it has handed to its node."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.delivered: list[Message] = []
        self.takers = 0  # how many listen: what deliver answers
        self.news = asyncio.Event()
        self.ended_leases: list[tuple[str, str, str]] = []
        self.readied: list[tuple[str, str]] = []

    def ready(self, topic: str, group: str) -> None:
        self.readied.append((topic, group))
        self.news.set()

    def ended(self, topic: str, group: str, lease: LeaseId) -> None:
        self.ended_leases.append((topic, group, str(lease)))

    def deliver(self, message: Message) -> int:
        self.delivered.append(message)
        self.news.set()
        return min(self.takers, 1) if message.delivery == "one" else self.takers


def _slowly(verb: Callable[..., asyncio.Future[Any]]) -> Callable[..., asyncio.Future[Any]]:
    """The question takes some turns of the event loop, and so does the answer."""

    @wraps(verb)
    def ask(*args: Any, **options: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def arrive() -> None:
            _after(TURNS, come_back, verb(*args, **options))

        def come_back(known: asyncio.Future[Any]) -> None:
            error = known.exception()
            if answer.cancelled():
                return
            if error is None:
                answer.set_result(known.result())
            else:
                answer.set_exception(error)

        _after(TURNS, arrive)
        return answer

    return ask


def _after(turns: int, call: Callable[..., None], *args: Any) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_after, turns - 1, call, *args)
    else:
        call(*args)


TURNS: Final = 2


class SlowEngine(MemoryEngine):
    """One whose answers are not there at once: as if a disk or another machine had to be asked."""

    append = _slowly(MemoryEngine.append)
    locate = _slowly(MemoryEngine.locate)
    read = _slowly(MemoryEngine.read)
    get = _slowly(MemoryEngine.get)
    topics = _slowly(MemoryEngine.topics)
    topic = _slowly(MemoryEngine.topic)
    configure = _slowly(MemoryEngine.configure)
    drop = _slowly(MemoryEngine.drop)
    join = _slowly(MemoryEngine.join)
    claim = _slowly(MemoryEngine.claim)
    settle = _slowly(MemoryEngine.settle)
    group = _slowly(MemoryEngine.group)
    configure_group = _slowly(MemoryEngine.configure_group)
    drop_group = _slowly(MemoryEngine.drop_group)


Make = Callable[[Limits], AbstractAsyncContextManager[Opened]]

ENGINES: dict[str, Callable[[Limits, Clock], Engine]] = {"memory": MemoryEngine, "slow": SlowEngine}


@pytest.fixture(params=ENGINES)
def opened(request: pytest.FixtureRequest) -> Make:
    @asynccontextmanager
    async def make(limits: Limits) -> AsyncIterator[Opened]:
        clock = Clock()
        node = Opened(ENGINES[request.param](limits, clock), clock)
        await node.engine.open(node.deliver, node)
        try:
            yield node
        finally:
            await node.engine.close()

    return make


def drafts_text(messages: Sequence[Message]) -> list[str]:
    return [message.data.decode() for message in messages]
