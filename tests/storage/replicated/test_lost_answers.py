"""Entries whose answers were lost with the connection to the journal: they were carried out, and nobody was told."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from app.errors import Draining, OutcomeUnknown, StorageFailed
from app.messages.lease import Action, Outcome, lease_id
from tests.engines.conftest import drafts_text
from tests.engines.groups import ack, claim, counters, make
from tests.engines.test_contract import append, texts
from tests.storage.replicated.nodes import Node, Nodes, nodes, settled

WHEN = pytest.mark.parametrize("when", ["before it is carried out", "before it is confirmed"])


async def lose_the_answer(node: Node, when: str, ask: Callable[[], Awaitable[Any]]) -> None:
    """What is asked gets into the journal, and the node loses the connection before it knows."""
    node.hold(when == "before it is carried out")
    node.journal.unconfirmed = []
    asked = asyncio.ensure_future(ask())
    await settled()
    node.cut()
    with pytest.raises(OutcomeUnknown):
        await asked
    await back(node)


async def back(node: Node) -> None:
    node.journal.cut = False
    node.hold(False)
    while node.engine._outgoing.lost:
        await settled()
    await settled()


@WHEN
@pytest.mark.parametrize("takers", [0, 1])
async def test_a_message_for_one_reaches_one(takers: int, when: str) -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        a.takers = takers
        await lose_the_answer(a, when, partial(append, a, "a", "x", delivery="one"))
        assert drafts_text(a.delivered) == ["x"]
        assert await texts(b, "a", take=True) == [["x"], []][takers]


async def test_what_was_taken_for_nobody_is_offered_again() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await append(b, "a", "x", delivery="one")
        await settled()
        a.hold(True)
        page = asyncio.ensure_future(texts(a, "a", take=True))
        await settled()
        a.cut()
        assert await page == []
        await back(a)
        assert await texts(b, "a", take=True) == ["x"]


@WHEN
@pytest.mark.parametrize("bound", [True, False])
async def test_a_lease_that_nobody_has_ends_at_once_and_its_attempt_does_not_count(bound: bool, when: str) -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await make(a, max_deliveries=1)
        await append(a, "a", "x")
        pull = partial(a.engine.claim, "a", "g", count=1, nbytes=1 << 20, seconds=3_600, bound=bound)
        await lose_the_answer(a, when, pull)
        assert (await counters(b))[:2] == (1, 0)
        (lease,) = await claim(b, 5)
        assert lease.message.data == b"x"


@WHEN
async def test_a_repeated_publish_is_told_how_many_had_the_first(when: str) -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        a.takers = 3
        await lose_the_answer(a, when, partial(append, a, "a", "x", key="k"))
        again = await append(a, "a", "x", key="k")
        assert (again.duplicate, again.subscribers) == (True, 3)


async def fork(cluster: Nodes, at: int) -> None:
    """The journal loses the entries after this one, and no node gives them back."""
    cluster.log.lose_after(at)
    for node in cluster.started:
        await back(node)


async def test_a_message_for_one_that_was_in_transit_when_the_log_was_replaced_is_offered_again() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        a.takers = 1
        await append(a, "a", "x", delivery="one")
        await settled()
        kept = cluster.log.number
        await append(a, "other", "is lost")
        await settled()
        await fork(cluster, kept)
        assert await texts(b, "a", take=True) == ["x"]
        assert await texts(b, "other") == []


async def test_what_a_worker_returns_while_the_journal_is_away_is_returned_when_it_is_back() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await make(a)
        await append(a, "a", "x", "y")
        leases = await claim(a, 2, seconds=3_600)
        a.cut()
        await settled()
        returned = [
            a.engine.settle("a", "g", action, [lease_id(lease)])
            for action, lease in zip([Action.RETURN, Action.EXCUSE], leases, strict=True)
        ]
        with pytest.raises(StorageFailed):
            await ack(a, leases[0])
        await back(a)
        assert [await one for one in returned] == [[Outcome.DONE], [Outcome.DONE]]
        assert (await counters(b))[:2] == (2, 0)


async def test_what_waits_for_a_journal_that_stays_away_ends_with_the_node() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        a.cut()
        await settled()
        returned = a.engine.settle("a", "g", Action.RETURN, [])
        await a.engine.close()
        with pytest.raises(Draining):
            await returned
