"""What is in memory besides the file is known again by the next server, and bounded there too."""

from pathlib import Path

import pytest

from app.errors import LogFull
from app.log.groups.group import GROUP_COST, JOB_COST
from app.log.run import EXPIRY_COST, ONE_COST
from app.log.topic_log import Limits, weigh
from app.messages.message import ONE
from tests.durable.life import Life
from tests.harness import draft

pytestmark = pytest.mark.anyio


async def test_what_was_taken_is_taken_after_a_restart(tmp_path: Path) -> None:
    later = draft("a", b"later", delay=1_000.0)
    room = GROUP_COST + 2 * JOB_COST + EXPIRY_COST + ONE_COST + weigh([later]).memory
    life, limits = Life(tmp_path), Limits(memory_bytes=room)
    async with life.open(limits) as node:
        await node.engine.append([draft("a", b"1", ttl=1_000.0)])
        await node.engine.append([draft("a", b"2", delivery=ONE)])
        await node.engine.append([later])
        await node.engine.configure_group("b", "g", {})
        await node.engine.append([draft("b", b"1", b"2", b"3")])
        assert len(await node.engine.claim("b", "g", count=9, nbytes=100, seconds=100.0)) == 2
    async with life.open(limits) as node:
        for more in (draft("c", b"", ttl=1_000.0), draft("c", b"", delivery=ONE), draft("c", b"", delay=1_000.0)):
            with pytest.raises(LogFull):
                await node.engine.append([more])
        with pytest.raises(LogFull):
            await node.engine.claim("b", "g", count=1, nbytes=100, seconds=100.0)
        await node.engine.drop("a")
        assert len(await node.engine.claim("b", "g", count=9, nbytes=100, seconds=100.0)) == 1
