"""The promise of an engine (app/storage/engine.py) about groups. Every engine passes every one of these."""

import asyncio
from itertools import pairwise

import pytest

from app.errors import GroupLimit, NotFound, OptionInvalid, TopicLimit
from app.log.directory import ListQuery
from app.log.topic_log import Limits
from app.messages.lease import Action, LeaseId, parse_lease_id
from app.messages.message import Delivery, Id
from app.messages.position import EARLIEST, LATEST, After, Last, Start
from tests.engines.conftest import Make, Opened
from tests.engines.groups import ALL, UNKNOWN, ack, claim, claimed, counters, make, settle
from tests.engines.test_contract import append, texts

# What there is


async def test_a_group_is_created_once_by_the_first_request(opened: Make) -> None:
    async with opened(ALL) as node:
        with pytest.raises(NotFound):
            await node.engine.join("a", "g", make=False)
        await append(node, "a", "1")
        with pytest.raises(NotFound):
            await node.engine.join("a", "g", make=False)
        await node.engine.join("a", "g")
        await node.engine.join("a", "g", make=False)
        assert await claimed(node) == ["1"]
        await node.engine.join("a", "g")
        assert await counters(node) == (0, 1, 0, 0, 0)
        assert (await node.engine.topic("a")).groups == ["g"]


async def test_a_group_can_be_made_before_its_topic(opened: Make) -> None:
    async with opened(Limits(topic_idle=10.0)) as node:
        await make(node)
        node.clock.now += 1_000
        await append(node, "a", "1")
        assert await claimed(node) == ["1"]


async def test_joining_a_group_creates_the_topic_too_within_the_limit_of_topics(opened: Make) -> None:
    async with opened(Limits(topics=1)) as node:
        await node.engine.join("a", "g")
        await append(node, "a", "1")
        assert await claimed(node) == ["1"]
        with pytest.raises(TopicLimit):
            await node.engine.join("b", "g")


async def test_a_topic_with_groups_is_not_forgotten_when_it_is_idle(opened: Make) -> None:
    async with opened(Limits(topic_idle=10.0)) as node:
        await make(node)
        node.clock.now += 1_000
        assert (await node.engine.topic("a")).groups == ["g"]
        await node.engine.drop_group("a", "g")
        with pytest.raises(NotFound):
            await node.engine.topic("a")


async def test_where_a_new_group_begins(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", "1", "2", "3", "4")
        epoch = node.engine.epoch
        places: list[tuple[Start, list[str]]] = [
            (EARLIEST, ["1", "2", "3", "4"]),
            (LATEST, []),
            (Last(1), ["4"]),
            (After(Id(epoch, 2)), ["3", "4"]),
        ]
        for n, (start, expected) in enumerate(places):
            await node.engine.configure_group("a", f"g{n}", {}, ("word", start))
            assert await claimed(node, group=f"g{n}") == expected
        for nowhere in (After(Id(epoch, 5)), After(Id("other", 1))):
            with pytest.raises(OptionInvalid):
                await node.engine.configure_group("a", "g", {}, ("word", nowhere))


async def test_a_group_that_is_there_cannot_begin_elsewhere(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await node.engine.configure_group("a", "g", {"ack_timeout": 5.0}, ("earliest", EARLIEST))
        with pytest.raises(OptionInvalid):
            await node.engine.configure_group("a", "g", {}, ("latest", LATEST))
        assert (await node.engine.group("a", "g")).settings.ack_timeout == 5.0


async def test_a_group_cannot_dead_letter_into_its_own_topic(opened: Make) -> None:
    async with opened(ALL) as node:
        with pytest.raises(OptionInvalid):
            await make(node, dead_letter="a")


@pytest.mark.parametrize("length", [2, 3, 9])
async def test_dead_letters_do_not_lead_in_a_circle(opened: Make, length: int) -> None:
    names = [f"t{n}" for n in range(length)]
    async with opened(ALL) as node:
        for name, dead_letter in pairwise(names):
            await make(node, topic=name, dead_letter=dead_letter)
            await make(node, "another", topic=name, dead_letter="elsewhere")
        for group in ("g", "h"):
            with pytest.raises(OptionInvalid, match="leads back"):
                await make(node, group, names[-1], dead_letter=names[0])
        await make(node, topic=names[-1], dead_letter="elsewhere")
        for group in ("g", "h"):
            with pytest.raises(OptionInvalid, match="leads back"):
                await make(node, group, names[-1], dead_letter=names[0])
        with pytest.raises(OptionInvalid, match="leads back"):
            await make(node, topic="elsewhere", dead_letter=names[0])
        await node.engine.drop_group(names[0], "g")
        await make(node, topic=names[-1], dead_letter=names[0])


async def test_a_first_pull_closes_no_circle_either(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, topic="a.dead", dead_letter="a")
        with pytest.raises(OptionInvalid, match="leads back"):
            await node.engine.join("a", "g")
        assert ((await node.engine.topics(ListQuery())).items)[0].topic == "a.dead"


async def test_groups_of_a_topic_are_bounded(opened: Make) -> None:
    async with opened(Limits(groups=2)) as node:
        await make(node, "g1")
        await make(node, "g2")
        with pytest.raises(GroupLimit):
            await make(node, "g3")
        await make(node, "g2", ack_timeout=1.0)
        await node.engine.drop_group("a", "g1")
        await make(node, "g3")


async def test_a_dropped_group_is_not_found_and_a_new_one_starts_anew(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", "1", "2")
        await node.engine.join("a", "g")
        (one, _) = await claim(node)
        await ack(node, one)
        await node.engine.drop_group("a", "g")
        for verb in (
            lambda: claim(node), lambda: ack(node, one), lambda: counters(node),
            lambda: node.engine.drop_group("a", "g"),
        ):  # fmt: skip
            with pytest.raises(NotFound):
                await verb()
        await node.engine.join("a", "g")
        assert await claimed(node) == ["1", "2"]


async def test_dropping_a_topic_drops_its_groups(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1")
        (lease,) = await claim(node)
        node.readied.clear()
        await node.engine.drop("a")
        assert (node.ended_leases, node.readied) == ([("a", "g", lease.id)], [("a", "g")])
        await append(node, "a", "2")
        with pytest.raises(NotFound):
            await ack(node, lease)
        await make(node)
        assert await claimed(node) == ["2"]
        assert await ack(node, lease) == [UNKNOWN]


# Handing out


async def test_first_deliveries_are_in_order_and_each_message_goes_to_one(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", *map(str, range(10)))
        assert await claimed(node, 3) == ["0", "1", "2"]
        assert await claimed(node, 4) == ["3", "4", "5", "6"]
        assert await claimed(node) == ["7", "8", "9"]
        assert await claimed(node) == []


async def test_claims_at_the_same_time_share_the_messages_out(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", *map(str, range(100)))
        got = await asyncio.gather(*(claimed(node, 3) for _ in range(40)))
        assert [body for part in got for body in part] == list(map(str, range(100)))


async def test_every_group_and_every_subscriber_gets_everything(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", "1")
        for group in ("g", "h"):
            await node.engine.join("a", group)
        await append(node, "a", "2")
        for group in ("g", "h"):
            assert await claimed(node, group=group) == ["1", "2"]
        assert await texts(node, "a") == ["1", "2"]


async def test_a_lease_says_which_attempt_it_is_and_when_it_ends(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, ack_timeout=20.0)
        receipt = await append(node, "a", "1", "2")
        (lease,) = await claim(node, 1)
        assert (lease.id, lease.attempt, lease.expires) == (f"{receipt.id}-1", 1, node.clock.now + 20)
        (lease,) = await claim(node, 1, seconds=5.0)
        assert (lease.id, lease.expires) == (f"{receipt.last}-1", node.clock.now + 5)


async def test_a_claim_ends_soon_after_its_bytes(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", *["x" * 100] * 50)
        leases = await node.engine.claim("a", "g", count=100, nbytes=1_000, seconds=None)
        assert len(leases) == 10
        assert len(await node.engine.claim("a", "g", count=100, nbytes=1, seconds=None)) == 1


async def test_a_group_gets_neither_what_is_for_one_subscriber_nor_what_is_not_kept(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        one = await append(node, "a", "for one", delivery=Delivery.ONE)
        await append(node, "a", "passing", retain=False)
        await append(node, "a", "2")
        assert await counters(node) == (1, 0, 0, 0, 0)
        (lease,) = await claim(node)
        assert lease.message.data == b"2"
        assert await ack(node, one.id) == [UNKNOWN]
        assert await texts(node, "a", take=True) == ["for one", "2"]


async def test_what_came_back_is_handed_out_before_what_is_new(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1", "2", "3")
        leases = await claim(node, 2)
        await settle(node, Action.NACK, *reversed(leases), seconds=0)
        assert await claimed(node) == ["1", "2", "3"]


# What is told


async def test_the_end_of_every_lease_is_reported_once_and_before_the_message_is_leased_again(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=9)
        await append(node, "a", "1", "2", "3", "4", "5")
        acked, nacked, lost, over, dropped = await claim(node)
        await settle(node, Action.EXTEND, dropped, seconds=1_000.0)
        assert node.ended_leases == []
        told = node.ended_leases
        await ack(node, acked)
        await settle(node, Action.NACK, nacked, seconds=5_000.0)
        await settle(node, Action.RETURN, lost, seconds=5_000.0)
        assert [id for _, _, id in told] == [acked.id, nacked.id, lost.id]
        node.clock.now = over.expires
        (again, other) = await claim(node, 2)
        assert {again.message.id, other.message.id} == {lost.message.id, over.message.id}
        assert [id for _, _, id in told][3:] == [over.id]
        await node.engine.drop_group("a", "g")
        assert sorted(id for _, _, id in told[4:]) == sorted([again.id, other.id, dropped.id])


async def test_consumers_are_notified_of_new_and_returned_messages(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await make(node, "h")
        await append(node, "a", "1")
        assert sorted(node.readied) == [("a", "g"), ("a", "h")]
        (lease,) = await claim(node)
        node.readied.clear()
        await settle(node, Action.RETURN, lease)
        assert node.readied == [("a", "g")]
        (lease,) = await claim(node)
        node.readied.clear()
        await settle(node, Action.NACK, lease)
        assert node.readied == []  # it is delayed
        await node.engine.drop_group("a", "g")
        assert node.readied == [("a", "g")]


async def test_consumers_are_notified_by_a_timer_when_a_lease_or_a_delay_is_over(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "1")
        (lease,) = await claim(node, seconds=0.05)
        await told_within_time(node)
        assert node.ended_leases == [("a", "g", lease.id)]
        (lease,) = await claim(node)
        await settle(node, Action.NACK, lease, seconds=0.05)
        await told_within_time(node)
        assert [lease.attempt for lease in await claim(node)] == [3]


async def told_within_time(node: Opened) -> None:
    node.readied.clear()
    node.news.clear()
    node.clock.now += 0.05
    async with asyncio.timeout(10):
        await node.news.wait()
    assert node.readied == [("a", "g")]


async def test_a_message_that_dies_by_the_clock_is_dead_lettered_by_a_timer(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=1)
        await append(node, "a", "1")
        await claim(node, seconds=0.05)
        node.news.clear()
        node.clock.now += 0.05
        async with asyncio.timeout(10):
            await node.news.wait()
        assert (node.delivered[-1].topic, node.delivered[-1].data) == ("a.dead", b"1")


async def test_lease_ids_are_read_back() -> None:
    assert parse_lease_id("k3f9a2-42") == LeaseId(Id("k3f9a2", 42))
    assert parse_lease_id("k3f9a2-42-1") == LeaseId(Id("k3f9a2", 42), 1)
    for id in ("", "k3f9a2", "k3f9a2-42-0", "k3f9a2-42-01", "k3f9a2-42-1-1", "K-1", "k3f9a2-42-", "k3f9a2-42-x\n"):
        with pytest.raises(OptionInvalid):
            parse_lease_id(id)
