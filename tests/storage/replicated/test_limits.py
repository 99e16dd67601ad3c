"""Limits that decide are part of the log: nodes that were started with different ones do not part."""

from random import Random
from typing import Any

import pytest

from app.errors import TopicLimit
from app.log.topic_log import Limits, Retention
from tests.engines.test_contract import append, texts
from tests.log.commands.random_commands import RandomCommands
from tests.storage.replicated.nodes import nodes, settled
from tests.storage.replicated.test_snapshots import do_at_random, save_snapshot, state

SMALL = Limits(Retention(5, 1 << 10, 10.0), total_bytes=60_000, topics=4, groups=1, topic_idle=9.0)
MIDDLE = Limits(Retention(20, 1 << 12, 30.0), total_bytes=120_000, topics=6, groups=2, topic_idle=15.0)
LARGE = Limits(Retention(100, 1 << 14, 300.0), total_bytes=1 << 20, topics=50, groups=9, topic_idle=60.0)


@pytest.mark.parametrize("seed", range(3))
async def test_three_nodes_with_different_limits_have_one_state(seed: int) -> None:
    commands, random = RandomCommands(seed), Random(seed)
    async with nodes() as cluster:
        members: list[Any] = []
        for limits in (LARGE, SMALL, MIDDLE):
            members.append(await cluster.start(limits))
            await settled()
            await do_at_random(cluster, members, commands, random, 100)
            assert len(set(map(state, members))) == 1
        await save_snapshot(members[0])
        members.append(await cluster.start(LARGE))
        await settled()
        await do_at_random(cluster, members, commands, random, 100)
        assert len(set(map(state, members))) == 1


async def test_the_limits_of_the_node_that_was_started_last_are_in_force_on_all() -> None:
    async with nodes() as cluster:
        a = await cluster.start(LARGE)
        await append(a, "a", *map(str, range(10)))
        b = await cluster.start(SMALL)
        await settled()
        await append(a, "b", "x")
        assert await texts(a, "a") == await texts(b, "a") == ["5", "6", "7", "8", "9"]
        for topic in "cd":
            await append(a, topic, "x")
        with pytest.raises(TopicLimit):
            await append(a, "e", "x")
        await b.engine.close()
        c = await cluster.start(LARGE)
        await append(a, "e", "x")
        assert (await c.engine.topic("a")).retention == LARGE.retention


async def test_a_topic_with_settings_of_its_own_keeps_them() -> None:
    async with nodes() as cluster:
        a = await cluster.start(LARGE)
        await a.engine.configure("a", {"max_messages": 7})
        await append(a, "a", *map(str, range(9)))
        b = await cluster.start(SMALL)
        await settled()
        await append(b, "b", "x")
        assert len(await texts(a, "a")) == 7
        assert (await b.engine.topic("a")).retention.max_messages == 7


async def test_limits_that_are_not_in_force_are_logged_once_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes() as cluster:
        a = await cluster.start(LARGE)
        await settled()
        assert not caplog.messages
        b = await cluster.start(SMALL)
        await settled()
        await append(a, "a", "x")
        assert caplog.messages == [
            "this server sets other limits than the log had", "a server that was started later has set other limits"
        ]  # fmt: skip
        assert not b.engine.journal.other_limits
        others = {other.setting: (other.own, other.in_force) for other in a.engine.journal.other_limits}
        assert others["max_topics"] == (50, 4)
        assert others["max_age"] == (300.0, 10.0)
        assert len(others) == 7
        await cluster.start(SMALL)
        await settled()
        assert len(caplog.messages) == 2, "a server with the same limits changes nothing"
