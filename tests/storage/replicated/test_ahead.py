"""Ids and names that a client has from a faster node: another says that there is none only when it knows."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from app.errors import Behind, NotFound
from app.log.commands.begin_epoch import BeginEpoch
from app.log.groups.job import JobState
from app.log.groups.listing import JobQuery
from app.messages.lease import Action, Outcome, lease_id
from app.messages.message import Id, parse_id
from app.messages.position import After, AfterIndex, Cursor, GapReason, Start
from app.messages.scheduled_id import parse_scheduled_id
from app.messages.topic import TopicFilter
from app.storage.replicated import freshness
from tests.engines.groups import claim, make
from tests.engines.test_contract import append
from tests.harness import draft
from tests.storage.replicated.nodes import Node, Nodes, nodes, settled

T = TypeVar("T")


async def locate(on: Node, start: Start) -> Cursor:
    return await on.engine.locate(TopicFilter(["a"]), start)


async def published(on: Node, *bodies: str) -> Id:
    return parse_id((await append(on, "a", *bodies)).last)


async def at_a_late_node(cluster: Nodes, change: Callable[[Node], Any], ask: Callable[[Node, Any], Any]) -> Any:
    """The change on one node, and the answer of another that carries it out only after it was asked."""
    a, b = await cluster.start(), await cluster.start()
    await settled()
    b.hold(True)
    known = await change(a)
    await settled()
    answer = asyncio.ensure_future(ask(b, known))
    await settled()
    assert not answer.done(), "it cannot know"
    b.hold(False)
    return await answer


async def test_a_reader_that_comes_with_an_id_from_a_faster_node_goes_on_after_it() -> None:
    async with nodes() as cluster:
        cursor = await at_a_late_node(cluster, lambda a: published(a, "1", "2"), lambda b, id: locate(b, After(id)))
        assert (cursor.seq, cursor.reason) == (2, None)


async def test_an_index_from_a_faster_node_is_waited_for() -> None:
    async with nodes() as cluster:
        cursor = await at_a_late_node(cluster, lambda a: published(a, "1", "2"), lambda b, _: locate(b, AfterIndex(1)))
        assert cursor.seq == 2


async def test_an_id_of_an_epoch_that_has_just_begun_is_waited_for() -> None:
    async with nodes() as cluster:

        async def begin(a: Node) -> Id:
            await published(a, "old")
            await a.engine._do(BeginEpoch("newepoch"))
            return await published(a, "new")

        cursor = await at_a_late_node(cluster, begin, lambda b, id: locate(b, After(id)))
        assert (cursor.seq, cursor.reason) == (2, None)


async def test_a_message_that_a_faster_node_has_accepted_is_found() -> None:
    async with nodes() as cluster:
        message = await at_a_late_node(cluster, lambda a: published(a, "x"), lambda b, id: b.engine.get(id))
        assert message.data == b"x"


async def test_what_a_faster_node_has_scheduled_is_found() -> None:
    async with nodes() as cluster:
        known = await at_a_late_node(
            cluster,
            lambda a: a.engine.append([draft("a", b"x", delay=60.0)]),
            lambda b, scheduled: b.engine.scheduled(parse_scheduled_id(scheduled.id)),
        )
        assert known.first.envelope.topic == "a"


NAMED: dict[str, Callable[[Node, Any], Any]] = {
    "topic": lambda b, _: b.engine.topic("a"),
    "group": lambda b, _: b.engine.group("a", "g"),
    "jobs": lambda b, _: b.engine.jobs(JobQuery("a", "g", JobState.READY, 0, 10)),
}


@pytest.mark.parametrize("what", NAMED)
async def test_a_topic_or_a_group_that_a_faster_node_has_made_is_found(what: str) -> None:
    async with nodes() as cluster:
        assert await at_a_late_node(cluster, make, NAMED[what])


async def test_an_ack_at_a_node_that_has_not_read_of_the_lease_is_done() -> None:
    async with nodes() as cluster:

        async def lease(a: Node) -> Any:
            await make(a)
            await published(a, "x")
            (leased,) = await claim(a, 1)
            return leased

        (outcome,) = await at_a_late_node(
            cluster, lease, lambda b, leased: b.engine.settle("a", "g", Action.ACK, [lease_id(leased)])
        )
        assert outcome is Outcome.DONE


async def test_an_id_that_no_node_has_assigned_is_still_ahead() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        newest = await published(a, "x")
        await settled()
        ahead = Id(newest.epoch, newest.seq + 1)
        assert (await locate(b, After(ahead))).reason is GapReason.AHEAD
        assert (await locate(b, After(Id("other", 1)))).reason is GapReason.EPOCH
        assert await b.engine.get(ahead) is None
        with pytest.raises(NotFound):
            await b.engine.topic("never")


async def test_what_a_node_knows_costs_no_question_to_the_journal() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        newest = await published(a, "x")
        await locate(a, After(newest))
        await a.engine.get(newest)
        await a.engine.topic("a")
        assert not a.journal.heads


async def test_many_who_ask_at_once_share_the_question_to_the_journal() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await settled()
        b.hold(True)
        newest = await published(a, "x")
        cluster.log.silent = asyncio.Event()
        asked = [asyncio.ensure_future(locate(b, After(newest))) for _ in range(100)]
        await settled()
        cluster.log.silent.set()
        b.hold(False)
        assert {(await one).seq for one in asked} == {newest.seq}
        assert b.journal.heads <= 2


async def test_a_node_that_stays_behind_says_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "AHEAD_WAIT", 0.05)
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await settled()
        b.hold(True)
        newest = await published(a, "x")
        with pytest.raises(Behind):
            await locate(b, After(newest))
        cluster.log.silent = asyncio.Event()
        with pytest.raises(Behind):
            await b.engine.get(newest)
        cluster.log.silent.set()
        b.hold(False)


async def test_a_node_without_a_journal_says_of_what_it_does_not_have_that_it_does_not_know() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        known = await published(a, "x")
        await settled()
        b.cut()
        newest = await published(a, "y")
        await settled()
        with pytest.raises(Behind):
            await locate(b, After(newest))
        with pytest.raises(Behind):
            await b.engine.topic("never")
        assert (await locate(b, After(known))).seq == known.seq, "reads go on"


async def test_who_waits_at_a_node_that_ends_is_answered() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await settled()
        b.hold(True)
        asked = asyncio.ensure_future(locate(b, After(await published(a, "x"))))
        await settled()
        await b.engine.close()
        with pytest.raises(Behind):
            await asked
