"""Snapshots in a journal: a node that starts from one is as good as a node that has read all entries."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import cycle, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.errors import PlainmqError
from app.log.topic_log import Limits, Retention
from app.storage.replicated import snapshot_process, snapshots
from app.storage.replicated.fold_snapshot import digest, take
from app.storage.replicated.sessions import SESSION
from app.storage.unusable import StoreUnusable
from tests.engines.conftest import drafts_text
from tests.engines.groups import counters, make
from tests.engines.test_contract import append, texts
from tests.harness import DEADLINE
from tests.log.commands.random_commands import TOPICS, RandomCommands
from tests.storage.replicated.nodes import Node, Nodes, nodes, settled


async def each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def save_snapshot(node: Node) -> None:
    """Save one, and trim what is in it."""
    await settled()
    fold = node.engine._fold
    await node.journal.save_snapshot(fold.number, fold.link, each(take(fold)))
    await node.journal.trim(fold.number + 1)


def state(node: Node) -> tuple[str, str]:
    return node.state, digest(node.engine._fold)


async def do_at_random(cluster: Nodes, on: list[Node], commands: RandomCommands, random: Random, count: int) -> None:
    for _ in range(count):
        node, command = random.choice(on), commands.next()
        try:
            result: Any = await node.engine._do(command)
        except PlainmqError as error:
            result = error
        commands.head = node.engine._core.log.head
        commands.answered(command, result, [])
        cluster.clock.now += random.choice([0.0, 0.1, 1.0, 6.0])
    await settled()


@pytest.mark.parametrize("seed", range(4))
async def test_a_node_that_starts_from_a_snapshot_is_like_those_that_have_read_all(seed: int) -> None:
    limits = Limits(Retention(20, 1 << 12, 30.0), total_bytes=120_000, topics=len(TOPICS), groups=2, topic_idle=15.0)
    commands, random = RandomCommands(seed), Random(seed)
    async with nodes(limits) as cluster:
        members = [await cluster.start()]
        for _ in range(5):
            await do_at_random(cluster, members, commands, random, 60)
            await save_snapshot(random.choice(members))
            await do_at_random(cluster, members, commands, random, 20)
            members.append(await cluster.start())
            await settled()
            assert len(set(map(state, members))) == 1
        assert cluster.log.trimmed > 300


async def test_a_node_starts_from_a_snapshot_behind_which_nothing_was_appended() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        await append(a, "a", "x")
        await save_snapshot(a)
        b = await cluster.start()
        assert not b.delivered
        assert await texts(b, "a") == ["x"]
        await append(b, "a", "y")
        await settled()
        assert drafts_text(a.delivered) == ["x", "y"]
        assert drafts_text(b.delivered) == ["y"]


async def test_what_a_dead_node_holds_returns_on_a_node_that_knows_it_from_a_snapshot_only() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await make(b)
        await append(b, "a", "bound")
        await a.engine.claim("a", "g", count=1, nbytes=1 << 20, seconds=3_600, bound=True)
        await save_snapshot(b)
        c = await cluster.start()
        assert (await counters(c))[:2] == (0, 1)
        a.cut()
        cluster.clock.now += SESSION + 1
        await append(b, "other", "time passes")
        await settled()
        assert (await counters(c))[:2] == (await counters(b))[:2] == (1, 0)


async def test_a_node_that_was_away_while_entries_were_trimmed_goes_on_from_the_snapshot() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await append(a, "a", "x")
        await settled()
        b.hold(True)
        await append(a, "a", "y")
        await settled()
        await append(a, "a", "z")
        await save_snapshot(a)
        b.hold(False)
        await until(lambda: not b.engine.unready and b.engine._fold.number == cluster.log.number)
        assert await texts(b, "a") == ["x", "y", "z"]
        await settled()
        assert state(a) == state(b)


async def test_a_node_does_not_start_from_a_snapshot_that_it_cannot_read() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        await append(a, "a", "x")
        await save_snapshot(a)
        await a.journal.save_snapshot(a.engine._fold.number, b"", each([b"what a later version writes"]))
        with pytest.raises(StoreUnusable, match="cannot be read from the journal: the snapshot has no end"):
            await cluster.start()


def children() -> set[str]:
    """Also servers that other tests of this process use."""
    return {*Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_one_of_the_nodes_saves_a_snapshot_when_it_is_due_and_trims_what_the_one_before_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOT_ENTRIES", 50)
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        seen: list[int] = []
        for number in range(200):
            await append(a if number % 2 else b, "a", str(number))
            await settled()
            await until(lambda: a.engine._follower.snapshots._saving is b.engine._follower.snapshots._saving is None)
            if cluster.log.snapshot is not None and cluster.log.snapshot[0] not in seen:
                seen.append(cluster.log.snapshot[0])
        assert len(seen) >= 4
        assert [later - sooner for sooner, later in pairwise(seen)] == [50] * (len(seen) - 1)
        assert cluster.log.trimmed == seen[-2]
        assert cluster.log.reserved == {*seen}
        c = await cluster.start()
        await settled()
        assert state(a) == state(b) == state(c)


async def test_a_snapshot_whose_process_dies_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_process, "take", lambda _fold: iter([b"the first chunk", None]))
    async with nodes() as cluster:
        a = await cluster.start()
        await a.engine._follower.snapshots.make(a.engine._fold)
        await until(lambda: a.engine._follower.snapshots._saving is None)
        assert cluster.log.snapshot is None


async def test_a_node_that_stops_ends_the_snapshot_that_it_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_process, "take", lambda _fold: cycle([bytes(1_000)]))
    async with nodes() as cluster:
        a = await cluster.start()
        others = children()
        await a.engine._follower.snapshots.make(a.engine._fold)
        (child,) = children() - others
        await settled()
        await a.engine.close()
        assert child not in children()
        assert cluster.log.snapshot is None
