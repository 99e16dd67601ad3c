"""The promise of an engine about what it keeps for groups: how long, and what that counts."""

import pytest

from app.errors import LogFull, MessageTooLarge
from app.log.groups.job import JOB_COST
from app.log.groups.jobs import JOB_BATCH
from app.log.groups.size import GROUP_COST
from app.log.groups.state import GroupState
from app.log.run import MESSAGE_COST
from app.log.topic_log import TOPIC_COST, Limits, Retention
from app.messages.lease import Action, parse_lease_id
from app.messages.message import Delivery, Message
from tests.engines.conftest import Make, Opened
from tests.engines.groups import ALL, UNKNOWN, ack, claim, claimed, counters, deaths, make, settle
from tests.engines.test_contract import append, texts


async def test_a_full_topic_refuses_rather_than_give_up_what_is_not_acked(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=3, max_bytes=10))) as node:
        await make(node)
        await append(node, "a", "1", "2")
        with pytest.raises(LogFull):
            await append(node, "a", "3", "4")
        with pytest.raises(LogFull):
            await append(node, "a", "x" * 9)
        with pytest.raises(MessageTooLarge):
            await append(node, "a", "x" * 11)
        await append(node, "a", "3")
        with pytest.raises(LogFull):
            await append(node, "a", "4")
        with pytest.raises(LogFull):
            await append(node, "a", "for one", delivery=Delivery.ONE)
        with pytest.raises(LogFull):
            await append(node, "a", "for later", delay=60.0)
        await append(node, "a", "passing", retain=False)
        one, _, three = await claim(node)
        await ack(node, three)
        await append(node, "a", "4")
        assert await texts(node, "a") == ["1", "2", "4"]
        await ack(node, one)
        await append(node, "a", "5")
        assert await texts(node, "a") == ["2", "4", "5"]


async def test_no_age_takes_what_is_not_acked(opened: Make) -> None:
    async with opened(Limits(Retention(max_age=10.0))) as node:
        await make(node)
        await append(node, "a", "1", "2", "3", "4")
        _, two, three, _ = await claim(node, seconds=10_000)
        await ack(node, two)
        node.clock.now += 1_000
        assert await texts(node, "a") == ["1", "3", "4"]
        await ack(node, three)
        assert await texts(node, "a") == ["1", "4"]
        assert (await node.engine.group("a", "g")).oldest_time == node.clock.now - 1_000


async def test_a_lowered_retention_waits_for_the_workers_and_for_the_group(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1", "2", "3", "4", "5")
        await node.engine.configure("a", {"max_messages": 2})
        assert await texts(node, "a") == ["1", "2", "3", "4", "5"]
        _, two = await claim(node, 2)
        await ack(node, two)
        assert await texts(node, "a") == ["1", "3", "4", "5"]
        await node.engine.drop_group("a", "g")
        assert await texts(node, "a") == ["4", "5"]


async def test_what_one_group_is_done_with_stays_for_the_other(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=2))) as node:
        for group in ("g", "h"):
            await make(node, group)
        await append(node, "a", "1", "2")
        await ack(node, *await claim(node))
        with pytest.raises(LogFull):
            await append(node, "a", "3")
        await ack(node, *await claim(node, 1, group="h"), group="h")
        await append(node, "a", "3")
        assert await texts(node, "a") == ["2", "3"]
        await node.engine.drop_group("a", "h")
        await ack(node, *await claim(node))
        await append(node, "a", "4", "5")
        assert await texts(node, "a") == ["4", "5"]


async def test_what_is_for_one_subscriber_goes_before_what_is_not_acked(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=3))) as node:
        await make(node)
        await append(node, "a", "1")
        await append(node, "a", "for one", delivery=Delivery.ONE)
        await append(node, "a", "2", "3")
        assert await texts(node, "a", take=True) == ["1", "2", "3"]


async def test_a_group_that_is_made_late_holds_what_is_retained(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=2))) as node:
        await append(node, "a", "1", "2", "3")
        await node.engine.join("a", "g")
        with pytest.raises(LogFull):
            await append(node, "a", "4")
        assert await claimed(node) == ["2", "3"]


async def test_a_ttl_takes_what_is_held_wherever_it_is(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=4), total_bytes=1 << 20)) as node:
        await make(node, max_deliveries=3)
        await append(node, "a", "leased", "delayed", "returned", "new", ttl=10.0)
        leased, delayed, returned = await claim(node, 3, seconds=100)
        await settle(node, Action.NACK, delayed, seconds=100)
        await settle(node, Action.NACK, returned, seconds=0)
        assert await counters(node) == (2, 1, 1, 0, 0)
        node.clock.now += 10
        assert await counters(node) == (0, 0, 0, 0, 0)
        assert node.ended_leases.count(("a", "g", leased.id)) == 1
        assert (await node.engine.group("a", "g")).oldest is None
        assert await ack(node, leased) == [UNKNOWN]
        node.clock.now += 1_000
        assert await claimed(node) == []
        await append(node, "a", "1", "2", "3", "4")
        assert await claimed(node) == ["1", "2", "3", "4"]


async def test_no_worker_gets_an_expired_message_however_many_there_are(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=10_000))) as node:
        await make(node, max_deliveries=1)
        await append(node, "a", *["x"] * 9_000, ttl=10.0)
        await append(node, "a", "y")
        leases = await claim(node, 6_000, seconds=10.0)
        node.clock.now += 10
        assert await claimed(node) == ["y"]
        told = [await counters(node) for _ in range(6_000 // JOB_BATCH)]  # each question does some of what is due
        assert told[-1] == (0, 1, 0, 0, 0)
        assert await ack(node, leases[-1]) == [UNKNOWN]
        assert await deaths(node) == []


async def test_groups_without_a_message_are_counted_too(opened: Make) -> None:
    async with opened(Limits(total_bytes=2 * TOPIC_COST + 3 * GROUP_COST)) as node:
        for topic, group in (("a", "g"), ("a", "h"), ("b", "g")):
            await node.engine.join(topic, group)
        with pytest.raises(LogFull):
            await node.engine.join("b", "h")
        await node.engine.drop_group("a", "g")
        await node.engine.join("b", "h")
        assert (await node.engine.totals()).cost == 2 * TOPIC_COST + 3 * GROUP_COST


async def test_memory_counts_what_groups_may_take(opened: Make) -> None:
    room = TOPIC_COST + 2 * GROUP_COST + 4 * (MESSAGE_COST + 2 * JOB_COST)
    async with opened(Limits(total_bytes=room)) as node:
        for group in ("g", "h"):
            await make(node, group)
        await append(node, "a", "", "")
        with pytest.raises(LogFull):
            await append(node, "a", "", "", "")
        await append(node, "a", "", "")
        with pytest.raises(LogFull):
            await make(node, "i")
        with pytest.raises(LogFull):
            await append(node, "a", "")
        await node.engine.drop_group("a", "h")
        await append(node, "a", "")


async def test_the_state_of_a_group_names_its_oldest_message(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        assert await oldest(node) is None
        await append(node, "a", "1", "2")
        one, two = await texts(node, "a"), await oldest(node)
        assert (one[0], two) == ("1", "1")
        first, _ = await claim(node)
        await append(node, "a", "3")
        assert await oldest(node) == "1"
        await ack(node, first)
        assert await oldest(node) == "2"
        await settle(node, Action.ACK, f"{node.engine.epoch}-2")
        assert await oldest(node) == "3"


async def oldest(node: Opened) -> str | None:
    state: GroupState = await node.engine.group("a", "g")
    if state.oldest is None:
        return None
    found: Message | None = await node.engine.get(parse_lease_id(state.oldest).message)
    assert found is not None
    assert found.time == state.oldest_time
    return found.data.decode()


async def test_retention_takes_what_waits_for_one_among_what_groups_hold(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=3))) as node:
        await append(node, "a", "for one", delivery=Delivery.ONE)
        await append(node, "a", "1", "2")
        await node.engine.join("a", "g")
        assert await claimed(node, 1) == ["1"]
        await append(node, "a", "3")
        assert await texts(node, "a", take=True) == ["1", "2", "3"]
