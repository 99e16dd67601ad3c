"""The promise of an engine about leases: ack, nack, extend, and their end by the clock."""

import pytest

from app.log.topic_log import Limits, Retention
from app.messages.lease import Action
from app.messages.position import LATEST
from tests.engines.conftest import Make
from tests.engines.groups import ALL, DONE, EXPIRED, UNKNOWN, ack, claim, claimed, counters, make, settle
from tests.engines.test_contract import append


async def test_what_was_acked_does_not_come_back(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1", "2")
        one, two = await claim(node)
        assert await counters(node) == (0, 2, 0, 0, 0)
        assert await ack(node, one, str(two.message.id)) == [DONE, DONE]
        assert await counters(node) == (0, 0, 0, 2, 0)
        node.clock.now += 1_000
        assert await claimed(node) == []


async def test_an_ack_may_come_twice(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1")
        (lease,) = await claim(node)
        assert await ack(node, lease, lease) == [DONE, DONE]
        assert await ack(node, lease.message.id) == [DONE]
        assert await counters(node) == (0, 0, 0, 1, 0)
        assert node.ended_leases == [("a", "g", lease.id)]


async def test_what_was_acked_cannot_be_given_back_or_extended(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1")
        (lease,) = await claim(node)
        await ack(node, lease)
        for action in (Action.NACK, Action.EXTEND, Action.RETURN):
            assert await settle(node, action, lease) == [EXPIRED]


async def test_a_nack_delays_the_next_attempt_for_as_long_as_it_says(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1")
        (lease,) = await claim(node)
        assert await settle(node, Action.NACK, lease, seconds=7.5) == [DONE]
        assert await counters(node) == (0, 0, 1, 0, 0)
        node.clock.now += 7.25
        assert await claimed(node) == []
        node.clock.now += 0.25
        assert await counters(node) == (1, 0, 0, 0, 0)
        assert [lease.attempt for lease in await claim(node)] == [2]


@pytest.mark.parametrize("action", [Action.NACK, Action.RETURN])
async def test_the_wait_for_the_next_attempt_grows(opened: Make, action: Action) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=20)
        await append(node, "a", "1")
        for attempt, wait in enumerate([0, 1, 5, 30, 60, 60, 60], 1):
            (lease,) = await claim(node)
            assert lease.attempt == attempt
            await settle(node, action, lease)
            if wait:
                node.clock.now += wait - 0.25
                assert await claimed(node) == []
                node.clock.now += 0.25


async def test_a_lease_ends_exactly_at_its_time(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, ack_timeout=20.0)
        await append(node, "a", "1")
        (lease,) = await claim(node)
        node.clock.now = lease.expires - 0.25
        assert await claimed(node) == []
        assert await counters(node) == (0, 1, 0, 0, 0)
        node.clock.now = lease.expires
        assert await ack(node, lease) == [EXPIRED]
        assert [lease.attempt for lease in await claim(node)] == [2]
        assert node.ended_leases == [("a", "g", lease.id)]


async def test_everything_that_is_due_has_happened_however_late_the_next_query_comes(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", *map(str, range(100)))
        leases = await claim(node, seconds=1_000.0)
        await settle(node, Action.NACK, *leases[90:], seconds=0)
        again = await claim(node, seconds=1_000.0)
        await settle(node, Action.EXTEND, *leases[:90], seconds=10.0)
        await settle(node, Action.EXTEND, *again, seconds=11.0)  # their second failure: a second of delay follows
        node.clock.now += 12
        assert await counters(node) == (100, 0, 0, 0, 0)


async def test_an_extended_lease_ends_later_and_no_message_is_handed_out_twice(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, ack_timeout=20.0)
        await append(node, "a", "1")
        (lease,) = await claim(node)
        node.clock.now += 15
        assert await settle(node, Action.EXTEND, lease, seconds=100.0) == [DONE]
        node.clock.now += 99.75
        assert await claimed(node) == []
        assert await settle(node, Action.EXTEND, lease) == [DONE]
        node.clock.now += 19.75
        assert await claimed(node) == []
        assert node.ended_leases == []
        node.clock.now += 0.25
        assert await settle(node, Action.EXTEND, lease) == [EXPIRED]
        assert [lease.attempt for lease in await claim(node)] == [2]


async def test_a_late_ack_does_not_end_the_lease_of_another_worker(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1")
        (first,) = await claim(node)
        node.clock.now = first.expires
        (second,) = await claim(node)
        for action in (Action.ACK, Action.NACK, Action.EXTEND):
            assert await settle(node, action, first) == [EXPIRED]
        assert await counters(node) == (0, 1, 0, 0, 0)
        assert await ack(node, second.message.id) == [DONE]


async def test_a_group_knows_only_what_it_handed_out(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=3))) as node:
        epoch = node.engine.epoch
        first = await append(node, "a", "old")
        await node.engine.configure_group("a", "g", {}, ("latest", LATEST))
        await make(node, "h")
        elsewhere = await append(node, "b", "x")
        await append(node, "a", "1")
        (one,) = await claim(node)
        await ack(node, one)
        later = await append(node, "a", "2")
        for id in (first.id, elsewhere.id, later.id, f"{epoch}-0", f"{epoch}-99", f"other-{one.message.seq}"):
            for action in set(Action) - ({Action.SKIP} if id == later.id else set()):
                assert await settle(node, action, id) == [UNKNOWN], id
        assert await ack(node, one, group="h") == [UNKNOWN]
        await node.engine.drop_group("a", "h")
        for body in "345":
            await ack(node, *await claim(node))
            await append(node, "a", body)
        assert await ack(node, one) == [UNKNOWN]  # it is no longer retained


async def test_one_call_settles_many_each_by_itself(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1", "2", "3")
        one, two, _ = await claim(node)
        await settle(node, Action.NACK, two, seconds=5)
        assert await ack(node, one, two, "other-1", one) == [DONE, EXPIRED, UNKNOWN, DONE]
