"""A message for one subscriber that was on its way to somebody who left meanwhile goes to somebody else."""

import asyncio
from pathlib import Path

from app.broker.broker import Broker
from app.log.topic_log import Limits
from app.messages.message import Delivery
from app.messages.position import LATEST
from app.messages.topic import TopicFilter
from app.net.progress import Progress
from app.storage.clock import Clock
from app.storage.sqlite.engine import SqliteEngine
from app.web.sse import SSE_RAW
from tests.harness import DEADLINE, draft


class ProtectedRoute:
    """A sink that keeps what it is given."""

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


async def test_what_was_on_its_way_to_a_reader_that_left_is_not_lost(tmp_path: Path) -> None:
    async with Broker(SqliteEngine(Limits(), Clock(), tmp_path / "log.db")) as broker, asyncio.timeout(DEADLINE):
        await broker.publish([draft("a", b"precious", delivery=Delivery.ONE)])
        left, stayed = ProtectedRoute(), ProtectedRoute()
        gone = broker.subscribe(TopicFilter(["a"]), SSE_RAW, left)
        gone.start(LATEST)
        while not gone._reading:  # noqa: ASYNC110  turns of the event loop, no time
            await asyncio.sleep(0)
        gone.detach()  # before the log has answered
        await broker.topics()  # now it has
        there = broker.subscribe(TopicFilter(["a"]), SSE_RAW, stayed)
        there.start(LATEST)
        while b"precious" not in stayed.written:
            stayed.news.clear()
            await stayed.news.wait()
        assert b"precious" not in left.written
        there.detach()
