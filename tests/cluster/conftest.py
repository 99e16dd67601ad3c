"""Nodes on a real Redis or NATS: engines in this process, and what they have delivered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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
from app.storage.replicated.journal import Journal
from tests.engines.conftest import NO_REDIS, Opened
from tests.harness import DEADLINE, draft
from tests.redis_server import RedisServer, redis_server

ENTRY_BYTES = 1 << 20  # that a server of NATS must take
STEP = 0.02  # seconds between two looks at a node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster/" in item.nodeid and "nats" not in item.nodeid:
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


def redis_journal(url: str, durability: str = "primary", **options: Any) -> Journal:
    from app.storage.replicated.redis.address import parse_address
    from app.storage.replicated.redis.journal import RedisJournal
    from app.storage.replicated.redis.server import Durability

    policy, _, replicas = durability.partition(":")
    return RedisJournal(parse_address(url), Durability(policy, int(replicas or 0)), **options)  # type: ignore[arg-type]


def nats_journal(url: str, **options: Any) -> Journal:
    from app.storage.replicated.nats.address import parse_address
    from app.storage.replicated.nats.journal import NatsJournal

    return NatsJournal(parse_address(url), ENTRY_BYTES, **{"new_node_pause": 0.0, **options})


@asynccontextmanager
async def node(url: str, *args: Any, **options: Any) -> AsyncIterator[Node]:
    """`args`, `options`: of its journal."""
    make = nats_journal if url.startswith("nats") else redis_journal
    opened = Node(ReplicatedEngine(Limits(), clock.Clock(), make(url, *args, **options)))
    await opened.engine.open(opened.deliver, opened)
    opened.engine.on_replaced = opened.on_replaced
    try:
        yield opened
    finally:
        await opened.engine.close()


def url(redis: RedisServer) -> str:
    return f"redis://127.0.0.1:{redis.port}/0?name=test"


@asynccontextmanager
async def load(nodes: Sequence[Node]) -> AsyncIterator[list[str]]:
    """Publishers with keys on all nodes. What has been accepted so far."""
    accepted: list[str] = []
    over = asyncio.Event()

    async def publish(one: Node, name: str) -> None:
        while not over.is_set():
            body = f"{name}-{len(accepted)}"
            await one.retried(body)
            accepted.append(body)

    publishers = [asyncio.ensure_future(publish(one, f"p{n}")) for n, one in enumerate([*nodes] * 4)]
    yield accepted
    over.set()
    await asyncio.gather(*publishers)


async def all_have(nodes: Sequence[Node], accepted: list[str]) -> None:
    """Each node has delivered what was accepted, once, in one order, and has never begun anew."""
    for one in nodes:
        await one.until(lambda one=one: len(one.delivered) >= len(accepted))  # type: ignore[misc]
    first, *others = [[message.data.decode() for message in one.delivered] for one in nodes]
    assert all(other == first for other in others)
    assert len(first) == len({*first})
    assert {*first} == {*accepted}
    assert not any(one.replaced for one in nodes)
