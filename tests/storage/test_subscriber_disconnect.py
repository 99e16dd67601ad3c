"""A message for one subscriber that was on its way to somebody who left meanwhile goes to somebody else."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.broker.broker import Broker
from app.log.reading import Page
from app.log.topic_log import Limits
from app.messages.message import Delivery
from app.messages.position import LATEST
from app.messages.topic import TopicFilter
from app.net.progress import Progress
from app.storage.clock import Clock
from app.storage.sqlite.engine import SqliteEngine
from app.web.sse import SSE_RAW
from tests.harness import DEADLINE, draft


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.written = b""
        self.news = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written += data
        self.news.set()

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return Progress(0, 0)

    def end(self, reason: str) -> None:
        pass

    def abort(self) -> None:
        pass


class ObservedEngine(SqliteEngine):
    """Says when it has been asked for messages; the answer comes from the writer's thread, so later."""

    def __init__(self, limits: Limits, clock: Clock, path: Path) -> None:
        super().__init__(limits, clock, path)
        self.on_read: Callable[[], None] = lambda: None

    def read(self, *asked: Any, **options: Any) -> asyncio.Future[Page]:
        asyncio.get_running_loop().call_soon(self.on_read)
        return super().read(*asked, **options)


async def test_a_message_in_flight_to_a_subscriber_that_left_is_not_lost(tmp_path: Path) -> None:
    engine, left_early = ObservedEngine(Limits(), Clock(), tmp_path / "log.db"), asyncio.Event()
    async with Broker(engine) as broker, asyncio.timeout(DEADLINE):
        await broker.publish([draft("a", b"precious", delivery=Delivery.ONE)])
        left, stayed = Sink(), Sink()
        gone = broker.subscribe(TopicFilter(["a"]), SSE_RAW, left)

        def leave() -> None:
            gone.detach()
            left_early.set()

        engine.on_read = leave
        gone.start(LATEST)
        await left_early.wait()  # before the log has answered
        engine.on_read = lambda: None
        await broker.directory.topics()  # now it has
        there = broker.subscribe(TopicFilter(["a"]), SSE_RAW, stayed)
        there.start(LATEST)
        while b"precious" not in stayed.written:
            stayed.news.clear()
            await stayed.news.wait()
        assert b"precious" not in left.written
        there.detach()
