"""Who listens at other nodes: publishers and operators are told the subscribers and consumers of all of them."""

import pytest

from app.messages import attendance as bounds
from app.messages.attendance import Attendance, Consumers, Subscriptions, attendance
from app.messages.message import Receipt
from app.storage.replicated.sessions import SESSION
from tests.engines.conftest import drafts_text
from tests.engines.test_contract import append
from tests.harness import draft
from tests.storage.replicated.nodes import Node, nodes, settled
from tests.storage.replicated.test_snapshots import save_snapshot

LISTENERS = Attendance(
    [Subscriptions(("a",), 2), Subscriptions(("*",), 1), Subscriptions(("a", "b.*", "**"), 4)], [Consumers("a", "g", 3)]
)


def told(node: Node, topic: str = "a") -> int:
    return node.engine.elsewhere.subscribers(topic)


async def say(node: Node, said: Attendance = LISTENERS) -> None:
    node.engine.attend(said)
    await settled()


async def test_a_publisher_is_told_the_subscribers_of_all_nodes() -> None:
    async with nodes() as cluster:
        a, b, c = await cluster.start(), await cluster.start(), await cluster.start()
        await say(b)
        await say(c, Attendance([Subscriptions(("b.x",), 10)]))
        a.takers = 5
        assert (await append(a, "a", "x")).subscribers == 5 + 7
        assert (await append(a, "a", "x", "y")).subscribers == 5 + 7
        assert (await append(a, "b.x", "x")).subscribers == 5 + 4 + 10
        assert (await append(b, "b.x", "x")).subscribers == 10, "its own are those that its fan-out counts"
        each = await a.engine.append_each([draft("other", b"x"), draft("other", b"y")])
        assert isinstance(each, Receipt)
        assert each.subscribers == 5 + 5


async def test_a_repeated_publish_is_told_the_same_at_every_node() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await say(b)
        first = await append(a, "a", "x", key="k")
        await say(b, Attendance())
        again = await append(b, "a", "x", key="k")
        assert (first.subscribers, again.subscribers, again.duplicate) == (7, 7, True)


async def test_a_message_for_one_counts_who_got_it() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await say(b)
        assert (await append(a, "a", "x", delivery="one")).subscribers == 0
        a.takers = 1
        assert (await append(a, "a", "x", delivery="one")).subscribers == 1


async def test_what_a_node_says_anew_counts_in_place_of_what_it_said() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await say(b)
        assert (told(a), told(b), a.engine.elsewhere.consumers("a", "g")) == (7, 0, 3)
        assert a.engine.elsewhere.served == {("a", "g")}
        await say(b, Attendance([Subscriptions(("a",), 1)]))
        assert (told(a), a.engine.elsewhere.consumers("a", "g"), a.engine.elsewhere.served) == (1, 0, set())
        entries = len(cluster.log.entries)
        await say(b, Attendance([Subscriptions(("a",), 1)]))
        assert len(cluster.log.entries) == entries, "nothing has changed"


@pytest.mark.parametrize("says_bye", [True, False])
async def test_nobody_listens_at_a_node_whose_session_is_over(says_bye: bool) -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await say(b)
        if says_bye:
            await b.engine.close()
        else:
            b.cut()
            cluster.clock.now += SESSION + 1
            await append(a, "other", "time passes")
        await settled()
        assert (told(a), a.engine.elsewhere.served) == (0, set())


async def test_a_node_that_was_taken_for_dead_says_it_again() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        await say(b)
        b.hold(True)
        cluster.clock.now += SESSION + 1
        await append(a, "other", "time passes")
        b.hold(False)
        await settled()
        assert told(a) == 0
        await say(b)
        assert told(a) == 7


async def test_what_was_said_while_the_journal_was_away_is_said_again() -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        b.cut()
        await say(b)
        b.journal.cut = False
        while b.engine._outgoing.lost:
            await settled()
        await say(b)
        assert told(a) == 7


@pytest.mark.parametrize("by", ["entries", "snapshot"])
async def test_a_node_that_starts_knows_who_listens_and_the_state_is_the_same(by: str) -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        await say(a)
        if by == "snapshot":
            await save_snapshot(a)
        b = await cluster.start()
        assert told(b) == 7
        a.takers = 3
        await append(a, "a", "x", key="k")
        await settled()
        assert a.state == b.state
        assert drafts_text(b.delivered) == ["x"]


def test_a_bounded_number_is_told_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Subscriptions((f"t{number}",), 1) for number in range(1_000)]
    assert len(attendance(many, []).subscriptions) == bounds.MAX_ENTRIES
    assert attendance(many, []).subscriptions[0] == many[0], "the oldest"
    long = [Subscriptions(("x" * 1_000,) * 60, 1)] * 10
    assert len(attendance(long, []).subscriptions) == 1
    monkeypatch.setattr(bounds, "MAX_BYTES", 5)
    assert attendance([], [Consumers("ab", "c", 1), Consumers("de", "f", 1)]).consumers == [Consumers("ab", "c", 1)]
