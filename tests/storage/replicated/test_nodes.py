"""Several nodes on one journal: one order, one state, and nothing that is lost with a node."""

import asyncio
from random import Random
from typing import Any

import pytest

from app.errors import PlainmqError, StorageFailed
from app.log.commands.command import Command
from app.log.topic_log import Limits, Retention
from app.messages.lease import lease_id
from app.messages.message import Receipt
from app.storage.replicated.sessions import SESSION
from tests.engines.conftest import drafts_text
from tests.engines.groups import claim, counters, make
from tests.engines.test_contract import append, texts
from tests.log.commands.random_commands import TOPICS, RandomCommands
from tests.storage.replicated.nodes import Nodes, nodes, settled


async def publish_for_one(on: Any, body: str) -> None:
    await append(on, "a", body, delivery="one")
    await settled()


async def test_every_node_delivers_what_is_published_on_any_in_the_same_order() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        for number in range(20):
            await append(a if number % 3 else b, "a", str(number))
        await settled()
        assert drafts_text(a.delivered) == drafts_text(b.delivered) == [str(number) for number in range(20)]
        assert [message.id for message in a.delivered] == [message.id for message in b.delivered]


async def test_a_node_that_starts_later_has_the_same_log_and_delivers_only_what_is_new() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        await append(a, "a", "before")
        b = await cluster.start()
        assert await texts(b, "a") == ["before"]
        await append(a, "a", "after")
        await settled()
        assert drafts_text(b.delivered) == ["after"]
        assert a.state == b.state


async def test_a_message_for_one_is_delivered_by_the_node_that_published_it() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        a.takers = b.takers = 1
        await publish_for_one(a, "x")
        assert (drafts_text(a.delivered), drafts_text(b.delivered)) == (["x"], [])


async def test_a_message_for_one_without_a_taker_where_it_was_published_is_offered_on_every_node() -> None:
    async with nodes() as cluster:
        a, b, c = await cluster.start(), await cluster.start(), await cluster.start()
        await publish_for_one(a, "x")
        assert a.offered == b.offered == c.offered == ["a"]
        pages = await asyncio.gather(texts(b, "a", take=True), texts(c, "a", take=True), texts(a, "a", take=True))
        assert sorted(pages) == [[], [], ["x"]]


async def test_what_a_dead_node_had_in_transit_is_offered_to_others() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        a.takers = 1
        await publish_for_one(a, "x")
        a.cut()
        cluster.clock.now += SESSION + 1
        await append(b, "other", "time passes")
        await settled()
        assert b.offered == ["a"]
        assert await texts(b, "a", take=True) == ["x"]


async def test_a_node_that_was_taken_for_dead_removes_nothing_that_another_has_now() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        a.takers = 1
        await publish_for_one(a, "x")
        (message,) = a.delivered
        a.hold(True)
        cluster.clock.now += SESSION + 1
        await append(b, "other", "time passes")
        assert await texts(b, "a", take=True) == ["x"]
        a.engine.taken([message.seq])
        a.hold(False)
        await settled()
        await b.engine.give_back([message.seq])
        assert await texts(b, "a", take=True) == ["x"]


@pytest.mark.parametrize("says_bye", [True, False])
async def test_a_lease_ends_with_the_node_that_has_its_connection(says_bye: bool) -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await make(a)
        await append(a, "a", "bound", "free")
        await a.engine.claim("a", "g", count=1, nbytes=1 << 20, seconds=3_600, bound=True)
        await claim(a, 1, seconds=3_600)
        if says_bye:
            await a.engine.close()
        else:
            a.cut()
            cluster.clock.now += SESSION + 1
        await settled()
        assert (await counters(b))[:2] == (1, 1)
        (again,) = await claim(b, 5)
        assert again.message.data == b"bound"


async def test_pulls_of_one_turn_are_one_entry() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        await make(a)
        await append(a, "a", *map(str, range(20)))
        before = len(cluster.log.entries)
        pulled = await asyncio.gather(*(claim(a, 1) for _ in range(20)))
        assert len({lease.message.seq for leases in pulled for lease in leases}) == 20
        assert len(cluster.log.entries) == before + 1


async def test_an_idle_node_keeps_its_session() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await make(a)
        await append(a, "a", "bound")
        (lease,) = await a.engine.claim("a", "g", count=1, nbytes=1 << 20, seconds=3_600, bound=True)
        for _ in range(10):
            cluster.clock.now += SESSION / 2
            a.engine._renew()
            await append(b, "other", "time passes")
            await settled()
        assert (await counters(b))[:2] == (0, 1)
        assert lease_id(lease).attempt == 1


async def test_while_the_journal_is_away_reads_go_on_and_publishes_are_refused() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        await append(a, "a", "x")
        a.cut()
        await settled()
        with pytest.raises(StorageFailed, match="nothing was stored"):
            await append(a, "a", "y")
        assert await texts(a, "a") == ["x"]


@pytest.mark.parametrize("seed", range(4))
async def test_all_nodes_come_to_the_same_state_however_late_entries_arrive(seed: int) -> None:
    limits = Limits(Retention(20, 1 << 12, 30.0), total_bytes=120_000, topics=len(TOPICS), groups=2, topic_idle=15.0)
    async with nodes(limits) as cluster:
        all_nodes = [await cluster.start() for _ in range(3)]
        commands, random = RandomCommands(seed), Random(seed)
        for _ in range(300):
            node = random.choice(all_nodes)
            for other in all_nodes:
                other.hold(random.random() < 0.3 and other is not node)
            command = commands.next()
            result = await _result(node.engine._do(command))
            commands.head = node.engine._core.log.head
            commands.answered(command, result, [])
            cluster.clock.now += random.choice([0.0, 0.1, 1.0, 6.0])
            await texts(node, "**")
        await _level(cluster, all_nodes)
        assert len({node.state for node in all_nodes}) == 1


async def _level(cluster: Nodes, all_nodes: list[Any]) -> None:
    for node in all_nodes:
        node.hold(False)
    await settled()
    assert {node.engine._fold.number for node in all_nodes} == {cluster.log.number}


async def _result(future: "asyncio.Future[Any]") -> Receipt | Command | Any:
    try:
        return await future
    except PlainmqError as error:
        return error
