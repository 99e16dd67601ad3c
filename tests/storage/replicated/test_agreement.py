"""Nodes compare their states: who differs from the others says so and reads the log again."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.telemetry.records import FIELDS
from tests.engines.groups import claim, make
from tests.engines.test_contract import append, texts
from tests.harness import DEADLINE, whole
from tests.storage.replicated.nodes import Node, nodes, settled
from tests.storage.replicated.test_snapshots import save_snapshot, state, until

OWN = "the state of this server is not that of the others: it reads the log again"
OTHER = "the state of another server is not that of the others: it has to read the log again"


def mismatches(*members: Node) -> list[int]:
    return [node.engine.journal.digest_mismatches for node in members]


async def talk(members: list[Node]) -> None:
    """Every node appends something, twice: where it was, and where it was behind the others."""
    for _ in range(2):
        for node in members:
            if not node.engine.unready:
                node.engine._tick()
                await settled()


def lose_a_message(node: Node) -> None:
    topic = node.engine._core.log.topics["a"]
    node.engine._core.trimmer.purge(topic, topic.messages.first.first)


def count_wrongly(node: Node) -> None:
    node.engine._core.log.memory.cost += 1


def forget_a_topic(node: Node) -> None:
    whole(node.engine._core.drop("b", node.engine._now()))


def skip_a_number(node: Node) -> None:
    node.engine._core.log.head += 1


def end_a_lease(node: Node) -> None:
    for group in node.engine._core.groups.of("a").values():
        for job in group.jobs.by_seq.values():
            job.attempt += 1


CORRUPTIONS: dict[str, Callable[[Node], Any]] = {
    corrupt.__name__: corrupt for corrupt in (lose_a_message, count_wrongly, forget_a_topic, skip_a_number, end_a_lease)
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("snapshot", ["none", "of before", "of the wrong state"])
async def test_a_node_whose_state_is_wrong_reads_the_log_again(
    corruption: str, snapshot: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes() as cluster:
        members = [await cluster.start() for _ in range(3)]
        await make(members[0])
        await append(members[0], "a", "x", "y", "z")
        await append(members[0], "b", "x")
        await claim(members[0], 1, seconds=5)
        await settled()
        if snapshot == "of before":
            await save_snapshot(members[0])
        CORRUPTIONS[corruption](members[2])
        if snapshot == "of the wrong state":
            await save_snapshot(members[2])
        if corruption == "end_a_lease":
            cluster.clock.now += 6
            await claim(members[0], 5)
        await talk(members)
        await until(lambda: mismatches(members[2])[0] >= 1)

        async with asyncio.timeout(DEADLINE):
            while members[2].engine.unready or len(set(map(state, members))) > 1:
                await asyncio.sleep(0.01)
                await talk(members)
        assert mismatches(*members[:2]) == [0, 0]
        assert OWN in caplog.messages
        assert await texts(members[2], "b") == ["x"]


async def test_the_others_name_the_node_whose_state_is_wrong_and_save_a_snapshot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with nodes() as cluster:
        members = [await cluster.start() for _ in range(3)]
        await append(members[0], "a", "x")
        await settled()
        count_wrongly(members[2])
        for node in (members[2], members[2], members[0], members[1]):
            await talk([node])
        named = [getattr(record, FIELDS)["node"] for record in caplog.records if record.message == OTHER]
        assert named == [members[2].engine.journal.node] * 2, "each of the others says so once"
        await until(lambda: cluster.log.snapshot is not None)


async def test_two_nodes_that_differ_both_read_the_log_again() -> None:
    async with nodes() as cluster:
        members = [await cluster.start(), await cluster.start()]
        await append(members[0], "a", "x")
        await settled()
        count_wrongly(members[1])
        await talk(members)
        await until(lambda: min(mismatches(*members)) >= 1)
        await until(lambda: not any(node.engine.unready for node in members))
        await talk(members)
        assert state(members[0]) == state(members[1])
        before = mismatches(*members)
        await append(members[1], "a", "y")
        await talk(members)
        assert mismatches(*members) == before


async def test_nodes_that_are_late_or_were_away_agree() -> None:
    async with nodes() as cluster:
        members = [await cluster.start() for _ in range(3)]
        for number in range(50):
            members[2].hold(number % 10 < 5)
            await append(members[number % 2], "a", str(number))
        members[1].cut()
        await append(members[0], "a", "x")
        members[1].cut(False)
        members[2].hold(False)
        await until(lambda: members[1].engine.journal.connected)
        await save_snapshot(members[0])
        members.append(await cluster.start())
        await talk(members)
        assert mismatches(*members) == [0, 0, 0, 0]
        assert len(set(map(state, members))) == 1
