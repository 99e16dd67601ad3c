"""Nodes on a real Redis: engines in this process, and what they have delivered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.errors import OutcomeUnknown, StorageFailed
from app.log.topic_log import Limits
from app.messages.message import Receipt, parse_id
from app.messages.position import After, Earliest, Gap, Start
from app.messages.topic import TopicFilter
from app.storage import clock
from app.storage.replicated.engine import ReplicatedEngine
from tests.engines.conftest import NO_REDIS, Opened
from tests.harness import DEADLINE, draft
from tests.redis_server import RedisServer, redis_server

STEP = 0.02  # seconds between two looks at a node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster/" in item.nodeid:
            item.add_marker(NO_REDIS)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Node(Opened):
    """A node of a cluster, with the machine's clocks."""

    engine: ReplicatedEngine

    def __init__(self, engine: ReplicatedEngine) -> None:
        super().__init__(engine, clock.Clock())  # type: ignore[arg-type]  # the test does not move it
        self.replaced = 0  # how often its log was

    def on_replaced(self) -> None:
        self.replaced += 1

    async def publish(self, *bodies: str) -> Receipt:
        """Each with a key, repeated for as long as it is refused or its outcome unknown. The last receipt."""
        receipt: Any = None
        for body in bodies:
            receipt = await self.retried(body)
        assert isinstance(receipt, Receipt)
        return receipt

    async def retried(self, body: str) -> Any:
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    return await self.engine.append([draft("t", body.encode(), key=body)])
                except (StorageFailed, OutcomeUnknown):
                    await asyncio.sleep(STEP)

    async def stored(self, start: Start = Earliest()) -> tuple[list[str], Gap | None]:  # noqa: B008
        topics = TopicFilter(["t"])
        cursor = await self.engine.locate(topics, start)
        page = await self.engine.read(topics, cursor, limit=10_000, nbytes=1 << 30, take=False)
        return [message.data.decode() for message in page.messages], page.gap

    async def after(self, id: str) -> tuple[list[str], Gap | None]:
        return await self.stored(After(parse_id(id)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110  # of another process
                await asyncio.sleep(STEP)

    async def until_stored(self, *bodies: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.engine.unready or (await self.stored())[0] != [*bodies]:  # noqa: ASYNC110
                await asyncio.sleep(STEP)


@asynccontextmanager
async def node(url: str, durability: str = "primary", **options: Any) -> AsyncIterator[Node]:
    from app.storage.replicated.redis.address import parse_address
    from app.storage.replicated.redis.journal import RedisJournal
    from app.storage.replicated.redis.server import Durability

    policy, _, replicas = durability.partition(":")
    journal = RedisJournal(parse_address(url), Durability(policy, int(replicas or 0)), **options)  # type: ignore[arg-type]
    opened = Node(ReplicatedEngine(Limits(), clock.Clock(), journal))
    await opened.engine.open(opened.deliver, opened)
    opened.engine.on_replaced = opened.on_replaced
    try:
        yield opened
    finally:
        await opened.engine.close()


def url(redis: RedisServer) -> str:
    return f"redis://127.0.0.1:{redis.port}/0?name=test"
