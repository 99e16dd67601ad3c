"""A message for one subscriber that was on its way to somebody who left meanwhile goes to somebody else."""

import asyncio
from pathlib import Path

import pytest

from app.broker import Broker
from app.clock import Clock
from app.core.topiclog import Limits
from app.engines.sqlite import SqliteEngine
from app.frames import SSE_RAW
from app.message import Delivery
from app.net.progress import Progress
from app.position import LATEST
from app.topic import Selector
from tests.harness import DEADLINE, draft

pytestmark = pytest.mark.anyio


class Door:
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
        left, stayed = Door(), Door()
        gone = broker.subscribe(Selector(["a"]), SSE_RAW, left)
        gone.start(LATEST)
        while not gone._reading:  # noqa: ASYNC110  turns of the event loop, no time
            await asyncio.sleep(0)
        gone.close()  # before the log has answered
        await broker.topics()  # now it has
        there = broker.subscribe(Selector(["a"]), SSE_RAW, stayed)
        there.start(LATEST)
        while b"precious" not in stayed.written:
            stayed.news.clear()
            await stayed.news.wait()
        assert b"precious" not in left.written
        there.close()
