"""Every engine, one after the other, on a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from app.engines.base import Engine
from app.engines.memory import MemoryEngine
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
        self.ended_leases: list[tuple[str, str, int]] = []
        self.readied: list[tuple[str, str]] = []

    def ready(self, topic: str, group: str) -> None:
        self.readied.append((topic, group))

    def ended(self, topic: str, group: str, seq: int) -> None:
        self.ended_leases.append((topic, group, seq))

    def deliver(self, message: Message) -> int:
        self.delivered.append(message)
        self.news.set()
        return min(self.takers, 1) if message.delivery == "one" else self.takers


Make = Callable[[Limits], AbstractAsyncContextManager[Opened]]

ENGINES: dict[str, Callable[[Limits, Clock], Engine]] = {"memory": MemoryEngine}


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
