"""Publishers share a commit: after a commit, the engine waits a moment for the publishers that it has answered, so that
their next publishes are committed together too."""

import asyncio
from pathlib import Path

from tests.storage.reopening import LogFile, append

ROUNDS, PUBLISHERS = 40, 8


async def test_publishers_that_return_within_the_commit_window_share_a_transaction(tmp_path: Path) -> None:
    async with LogFile(tmp_path).open() as node:

        async def publish(turns: int) -> None:
            for _ in range(ROUNDS):
                await append(node, "t", "x")
                for _ in range(turns):  # of the event loop, until it is back
                    await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            for turns in range(PUBLISHERS):
                tasks.create_task(publish(turns))
        assert len(node.delivered) == ROUNDS * PUBLISHERS
        _, transactions = node.engine.commits.buckets()[-1]
    assert transactions < 1.5 * ROUNDS, "as many as if the first who is back had one alone, and the others the next"
