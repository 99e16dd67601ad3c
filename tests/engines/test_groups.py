"""The promise of an engine (app/storage/engine.py) about groups. Every engine passes every one of these."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest

from app.errors import DeadLettersLeft, GroupLimit, LogFull, MessageTooLarge, NotFound, OptionInvalid, TopicLimit
from app.log.directory import ListQuery
from app.log.groups.job import JOB_COST
from app.log.groups.jobs import JOB_BATCH
from app.log.groups.redrive import RedriveTarget
from app.log.groups.size import GROUP_COST, RECENT_DEAD_COST
from app.log.groups.state import DeadLetterTopic, GroupState
from app.log.run import DEATH_COST, MESSAGE_COST
from app.log.topic_log import TOPIC_COST, Limits, Retention
from app.messages.lease import Action, Lease, LeaseId, Outcome, parse_lease_id
from app.messages.message import Death, Delivery, Id, Message
from app.messages.position import EARLIEST, LATEST, After, Last, Start
from app.storage.engine import Engine
from tests.engines.conftest import Make, Opened
from tests.engines.test_contract import append, page, texts
from tests.harness import draft

ALL = Limits()
DONE, EXPIRED, UNKNOWN = Outcome.DONE, Outcome.EXPIRED, Outcome.UNKNOWN


async def make(node: Opened, group: str = "g", topic: str = "a", **changes: object) -> None:
    await node.engine.configure_group(topic, group, changes)


async def joined(node: Opened) -> str:
    """The name of a group of topic `a`. To join it lets time pass."""
    await node.engine.join("a", "g")
    return "g"


async def claim(
    node: Opened, count: int = 100, group: str = "g", topic: str = "a", seconds: float | None = None
) -> list[Lease]:
    return await node.engine.claim(topic, group, count=count, nbytes=1 << 30, seconds=seconds)


def bodies(leases: Sequence[Lease]) -> list[str]:
    return [lease.message.data.decode() for lease in leases]


async def claimed(node: Opened, count: int = 100, group: str = "g", topic: str = "a") -> list[str]:
    return bodies(await claim(node, count, group, topic))


async def settle(
    node: Opened, action: Action, *leases: Lease | str, group: str = "g", seconds: float | None = None, topic: str = "a"
) -> list[Outcome]:
    """Leases by their own ids; texts are taken as they are."""
    ids = [parse_lease_id(lease if isinstance(lease, str) else lease.id) for lease in leases]
    return await node.engine.settle(topic, group, action, ids, seconds)


async def ack(node: Opened, *leases: Lease | str, group: str = "g") -> list[Outcome]:
    return await settle(node, Action.ACK, *leases, group=group)


async def counters(node: Opened, group: str = "g", topic: str = "a") -> tuple[int, int, int, int, int]:
    """Ready, leased, delayed, acked, dead."""
    state = await node.engine.group(topic, group)
    assert state.lag == state.ready + state.leased + state.delayed
    return state.ready, state.leased, state.delayed, state.acked, state.dead


async def deaths(node: Opened, topic: str = "a.dead") -> list[Death | None]:
    return [message.death for message in (await page(node, topic)).messages]


async def fail(node: Opened, times: int, group: str = "g") -> Lease:
    """The oldest message, handed out and given back at once so often."""
    for _ in range(times):
        (lease,) = await claim(node, 1, group)
        await settle(node, Action.NACK, lease, seconds=0, group=group)
    return lease


async def all_die(node: Opened, *texts_: str, topic: str = "a") -> None:
    """Publish these to a topic whose group gives up at the first failure, and fail them."""
    await make(node, topic=topic, max_deliveries=1)
    await append(node, topic, *texts_)
    await settle(node, Action.NACK, *await claim(node, topic=topic), topic=topic)


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


# Settling


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


# Death


async def test_after_the_last_attempt_a_message_is_in_the_dead_letter_topic_with_its_story(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=3, ack_timeout=10.0)
        it = draft("a", b'{"n": 1}', content_type="application/json", event="made", ttl=1_000.0)
        await node.engine.append([it])
        begin = node.clock.now
        (lease,) = await claim(node)
        await settle(node, Action.NACK, lease)
        (lease,) = await claim(node)
        node.clock.now += 10
        assert await claimed(node) == []
        node.clock.now += 1
        (lease,) = await claim(node)
        node.clock.now += 4
        await settle(node, Action.RETURN, lease)
        assert await counters(node) == (0, 0, 0, 0, 1)
        (dead,) = (await page(node, "a.dead")).messages
        assert (dead.data, dead.content_type, dead.event, dead.expires) == (
            it.bodies[0],
            it.envelope.content_type,
            "made",
            None,
        )
        assert dead.death == Death(lease.message.id, "a", "g", 3, "the worker's connection was lost", begin, begin + 15)
        assert dead in node.delivered
        for action in set(Action) - {Action.SKIP}:
            assert await settle(node, action, lease) == [EXPIRED]


@pytest.mark.parametrize(
    ("action", "reason"), [(Action.NACK, "nack"), (None, "the lease expired"), (Action.RETURN, "connection was lost")]
)
async def test_a_dead_message_says_what_ended_its_last_attempt(
    opened: Make, action: Action | None, reason: str
) -> None:  # fmt: skip
    async with opened(ALL) as node:
        await make(node, max_deliveries=1, dead_letter="graves")
        await append(node, "a", "1")
        (lease,) = await claim(node)
        failed = lease.expires if action is None else node.clock.now
        if action is None:
            node.clock.now = lease.expires + 3  # nobody asked before
        else:
            await settle(node, action, lease, seconds=60.0)
        assert (await counters(node))[4] == 1
        (death,) = await deaths(node, "graves")
        assert death is not None
        assert reason in death.reason
        assert (death.first_failure, death.last_failure) == (failed, failed)


async def test_every_group_buries_its_own_dead(opened: Make) -> None:
    async with opened(ALL) as node:
        for group in ("g", "h"):
            await make(node, group, max_deliveries=2)
        await append(node, "a", "1", "2")
        await fail(node, 2)
        await ack(node, *await claim(node, group="h"), group="h")
        assert [death and death.group for death in await deaths(node)] == ["g"]
        assert await claimed(node) == ["2"]


async def test_the_dead_have_groups_and_die_again(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=1)
        await make(node, topic="a.dead", max_deliveries=1)
        await append(node, "a", "1")
        await fail(node, 1)
        (lease,) = await claim(node, topic="a.dead")
        await settle(node, Action.NACK, lease, topic="a.dead")
        (death,) = await deaths(node, "a.dead.dead")
        assert death is not None
        assert (death.id, death.topic) == (lease.message.id, "a.dead")


@pytest.mark.parametrize(
    "limits",
    [
        Limits(topics=2),
        Limits(total_bytes=2 * TOPIC_COST + GROUP_COST + 2 * MESSAGE_COST + JOB_COST + DEATH_COST + 9),
    ],
)
async def test_a_message_that_cannot_be_dead_lettered_waits_and_is_not_delivered(opened: Make, limits: Limits) -> None:
    async with opened(limits) as node:
        await make(node, max_deliveries=1)
        await append(node, "b", "in the way")
        await append(node, "a", "1")
        await fail(node, 1)
        for _ in range(3):
            assert await counters(node) == (0, 0, 1, 0, 0)
            assert await claimed(node) == []
            node.clock.now += 10
        await node.engine.drop("b")
        node.clock.now += 10
        assert await counters(node) == (0, 0, 0, 0, 1)
        assert await texts(node, "a.dead") == ["1"]


async def test_a_dead_message_that_waits_for_room_is_delivered_again_if_the_limit_of_attempts_rises(
    opened: Make,
) -> None:
    async with opened(Limits(topics=1)) as node:
        await make(node, max_deliveries=1)
        await append(node, "a", "1")
        await fail(node, 1)
        assert await claimed(node) == []
        await make(node, max_deliveries=2)
        assert [lease.attempt for lease in await claim(node)] == [2]


async def test_fewer_attempts_hold_for_what_had_more_already(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await append(node, "a", "ready", "leased", "delayed")
        for _ in range(3):
            leases = await claim(node)
            await settle(node, Action.NACK, *leases, seconds=0)
        ready, leased, delayed = await claim(node)
        await settle(node, Action.NACK, delayed, seconds=5)
        await settle(node, Action.NACK, ready, seconds=0)
        await make(node, max_deliveries=4)
        assert await claimed(node) == []
        assert await texts(node, "a.dead") == ["ready"]
        assert await settle(node, Action.NACK, leased) == [DONE]
        node.clock.now += 5
        assert await counters(node) == (0, 0, 0, 0, 3)
        assert await texts(node, "a.dead") == ["ready", "leased", "delayed"]


async def test_a_late_ack_of_a_dead_message_gets_expired(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=1)
        await append(node, "a", "1")
        lease = await fail(node, 1)
        assert await ack(node, lease, lease.message.id) == [EXPIRED, EXPIRED]
        assert await counters(node) == (0, 0, 0, 0, 1)


# What is kept


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


async def test_retention_takes_what_waits_for_one_among_what_groups_hold(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=3))) as node:
        await append(node, "a", "for one", delivery=Delivery.ONE)
        await append(node, "a", "1", "2")
        await node.engine.join("a", "g")
        assert await claimed(node, 1) == ["1"]
        await append(node, "a", "3")
        assert await texts(node, "a", take=True) == ["1", "2", "3"]


# What is dead is kept until somebody takes it away


async def test_neither_age_nor_number_nor_bytes_take_what_is_dead(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=5, max_bytes=20, max_age=100.0))) as node:
        await all_die(node, "dead1", "dead2")
        await append(node, "a.dead", "other")
        node.clock.now += 1_000
        await append(node, "a.dead", *"1234567")
        kept = await texts(node, "a.dead")
        assert (kept[:2], "other" in kept) == (["dead1", "dead2"], False)
        assert kept[2:] == ["5", "6", "7"]
        await node.engine.configure("a.dead", {"max_messages": 1, "max_age": 1.0})
        node.clock.now += 1_000
        assert await texts(node, "a.dead") == ["dead1", "dead2"]
        assert len([death for death in await deaths(node) if death]) == 2


async def test_when_the_dead_letter_topic_is_full_the_dead_stay_in_the_group_and_the_group_says_so(
    opened: Make,
) -> None:
    async with opened(Limits(Retention(max_messages=3))) as node:
        await node.engine.configure("a", {"max_messages": 6})
        await all_die(node, *"12345")
        state = await node.engine.group("a", "g")
        assert (state.dead, state.delayed, state.dead_letters) == (3, 2, DeadLetterTopic(3, 3, 3, 8 << 20, 2))
        totals = await node.engine.totals()
        assert (totals.dead, totals.postponed) == (3, 2)
        assert await claimed(node) == []
        await append(node, "a", "6")
        await append(node, "a", "7", "8", "9")
        with pytest.raises(LogFull, match="not acked 6"):
            await append(node, "a", "10")
        with pytest.raises(LogFull, match="still holds dead letters, 3 messages"):
            await append(node, "a.dead", "a stranger's")
        node.clock.now += 1_000
        assert (await node.engine.group("a", "g")).dead_letters.waiting == 2
        await node.engine.configure("a.dead", {"max_messages": 4})
        node.clock.now += 10
        state = await node.engine.group("a", "g")
        assert (state.dead, state.dead_letters) == (4, DeadLetterTopic(4, 4, 4, 8 << 20, 1))


async def test_another_dead_letter_topic_is_refused_while_dead_messages_are_in_the_present_one(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=5))) as node:
        await all_die(node, "1", "2")
        with pytest.raises(DeadLettersLeft, match=r"'a.dead' has 2 dead messages of the group 'g'.*redrive or delete"):
            await make(node, dead_letter="graves")
        await make(node, dead_letter="a.dead", max_deliveries=3)
        assert (await node.engine.group("a", "g")).settings.dead_letter == "a.dead"
        await node.engine.redrive(RedriveTarget("a", "g", "a.dead"))
        await make(node, dead_letter="graves", max_deliveries=1)
        await settle(node, Action.NACK, *await claim(node, 2))
        assert (len(await deaths(node, "graves")), await deaths(node)) == (2, [])


async def test_dead_is_what_is_dead_now_and_dead_total_what_ever_died(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=5))) as node:
        await make(node, "h")
        await all_die(node, "1", "2", "3")
        first = (await page(node, "a.dead")).messages[0]
        await node.engine.redrive(RedriveTarget("a", "g", "a.dead"), [Id(first.epoch, first.seq)])
        state, totals = await node.engine.group("a", "g"), await node.engine.totals()
        assert (state.dead, state.dead_total, totals.dead, totals.dead_total) == (2, 3, 2, 3)
        await node.engine.purge("a.dead")
        state = await node.engine.group("a", "g")
        assert (state.dead, state.dead_total) == (0, 3)
        await node.engine.drop_group("a", "g")
        assert (await node.engine.totals()).dead_total == 3


async def test_groups_are_sorted_by_what_is_dead_now(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=5))) as node:
        await all_die(node, "1", "2")
        await make(node, "h", "b", max_deliveries=1)
        await append(node, "b", "3")
        await settle(node, Action.NACK, *await claim(node, 1, "h", "b"), group="h", topic="b")
        first = partial(node.engine.groups, ListQuery(sort="-dead", limit=1))
        assert [state.group for state in (await first()).items] == ["g"]
        await node.engine.redrive(RedriveTarget("a", "g", "a.dead"))
        assert [state.group for state in (await first()).items] == ["h"]


CHANGES: dict[str, Callable[[Engine], Awaitable[object]]] = {
    "resumed": lambda engine: engine.pause("a.dead", False),
    "purged": lambda engine: engine.purge("a.dead"),
    "given more room": lambda engine: engine.configure("a.dead", {"max_messages": 9}),
    "replaced": lambda engine: engine.configure_group("a", "g", {"dead_letter": "b.dead"}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_waits_for_the_dead_letter_topic_goes_there_at_once_when_that_is(opened: Make, change: str) -> None:
    async with opened(Limits(Retention(max_messages=2))) as node:
        await node.engine.configure("a", {"max_messages": 6})
        if change in {"resumed", "replaced"}:
            await append(node, "a.dead", "x")
            await node.engine.pause("a.dead", True)
        await all_die(node, "1", "2", "3")
        before = await node.engine.group("a", "g")
        assert before.dead_letters.waiting > 0
        await CHANGES[change](node.engine)
        state = await node.engine.group("a", "g")
        assert state.dead_total > before.dead_total


async def test_what_was_due_while_a_topic_was_paused_is_published_when_it_is_resumed(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", "1")
        await node.engine.append([draft("a", b"late", delay=50.0)])
        await node.engine.pause("a", True)
        node.clock.now += 51.0
        assert await claimed(node, group=await joined(node)) == ["1"]
        await node.engine.pause("a", False)
        assert await claimed(node) == ["late"]


async def test_bytes_bound_what_is_dead_too(opened: Make) -> None:
    async with opened(Limits(Retention(max_bytes=250))) as node:
        await all_die(node, *["x" * 100] * 2)
        await settle(node, Action.NACK, *await claim(node))
        await append(node, "a", "x" * 100)
        await settle(node, Action.NACK, *await claim(node))
        assert (await node.engine.group("a", "g")).dead_letters == DeadLetterTopic(2, 200, 1_000, 250, 1)


@pytest.mark.parametrize("again", [False, True])
async def test_consuming_the_dead_letters_removes_them(opened: Make, again: bool) -> None:
    """By an ack, or when they die again, and are in the next topic then."""
    async with opened(Limits(Retention(max_messages=2))) as node:
        await all_die(node, "1", "2")
        await make(node, topic="a.dead", max_deliveries=1)
        jobs = await claim(node, topic="a.dead")
        assert bodies(jobs) == ["1", "2"]
        action = Action.NACK if again else Action.ACK
        assert await settle(node, action, *jobs, topic="a.dead") == [DONE, DONE]
        assert (await texts(node, "a.dead"), await texts(node, "a.dead.dead")) == ([], ["1", "2"] if again else [])
        assert (await node.engine.group("a", "g")).dead_letters.kept == 0
        assert (await node.engine.totals()).dead == (2 if again else 0)
        await append(node, "a", "3", "4")
        await settle(node, Action.NACK, *await claim(node))
        assert await texts(node, "a.dead") == ["3", "4"]


async def test_the_dead_stay_until_the_last_group_that_has_to_do_them_has(opened: Make) -> None:
    async with opened(ALL) as node:
        await all_die(node, "1")
        await make(node, "one", "a.dead")
        await make(node, "two", "a.dead")
        for group, left in (("one", ["1"]), ("two", [])):
            (job,) = await claim(node, group=group, topic="a.dead")
            await settle(node, Action.ACK, job, group=group, topic="a.dead")
            assert await texts(node, "a.dead") == left


async def test_what_one_group_did_goes_when_the_others_are_dropped_and_what_none_did_stays(opened: Make) -> None:
    async with opened(ALL) as node:
        await all_die(node, *"1234")
        for group in ("done", "leased", "untouched"):
            await make(node, group, "a.dead")
        one, two = await claim(node, 2, "done", "a.dead")
        await settle(node, Action.ACK, one, two, group="done", topic="a.dead")
        await claim(node, 1, "leased", "a.dead")
        await node.engine.drop_group("a.dead", "untouched")
        assert await texts(node, "a.dead") == list("1234")
        await node.engine.drop_group("a.dead", "leased")
        assert await texts(node, "a.dead") == list("34")
        await node.engine.drop_group("a.dead", "done")
        assert await texts(node, "a.dead") == list("34")
        assert (await node.engine.group("a", "g")).dead_letters.kept == 2
        await node.engine.drop("a.dead")
        node.clock.now += 100_000
        with pytest.raises(NotFound):
            await node.engine.topic("a.dead")


async def test_a_group_that_begins_behind_the_dead_takes_none_of_them(opened: Make) -> None:
    limits = Limits(Retention(max_messages=3, max_age=100.0))
    async with opened(limits) as node:
        await all_die(node, "1", "2")
        await node.engine.configure_group("a.dead", "late", {}, ("latest", LATEST))
        assert await counters(node, "late", "a.dead") == (0, 0, 0, 0, 0)
        await append(node, "a.dead", "3")
        assert await counters(node, "late", "a.dead") == (1, 0, 0, 0, 0)
        (job,) = await claim(node, group="late", topic="a.dead")
        await settle(node, Action.ACK, job, group="late", topic="a.dead")
        await append(node, "a.dead", "4")
        node.clock.now += 1_000
        await node.engine.drop_group("a.dead", "late")
        assert await texts(node, "a.dead") == ["1", "2"]
        await node.engine.join("a.dead", "all")
        assert await claimed(node, group="all", topic="a.dead") == ["1", "2"]


async def test_to_delete_the_topic_takes_the_dead_too(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=2))) as node:
        await all_die(node, "1", "2")
        await node.engine.drop("a.dead")
        assert (await node.engine.group("a", "g")).dead_letters.kept == 0
        await append(node, "a", "3", "4")
        await settle(node, Action.NACK, *await claim(node))
        assert await texts(node, "a.dead") == ["3", "4"]


async def test_what_is_dead_costs_the_log_what_it_takes_and_nothing_when_it_is_gone(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, topic="a.dead")
        await make(node, "h", "a.dead")
        await make(node, max_deliveries=1)
        before = (await node.engine.totals()).cost
        await all_die(node, "1", "2")
        for group in ("g", "h"):
            for job in await claim(node, group=group, topic="a.dead"):
                await settle(node, Action.ACK, job, group=group, topic="a.dead")
        await node.engine.configure("a", {"max_age": 1.0})
        node.clock.now += 10
        await claim(node)
        assert (await node.engine.totals()).cost == before + 2 * RECENT_DEAD_COST  # the group remembers them


async def test_a_skipped_message_that_one_claim_passes_is_held_no_longer(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=3))) as node:
        await make(node)
        await append(node, "a", "1", "2", "3")
        assert await settle(node, Action.SKIP, f"{node.engine.epoch}-2") == [DONE]
        leases = await claim(node)
        assert bodies(leases) == ["1", "3"]
        await ack(node, *leases)
        await append(node, "a", "4", "5", "6")
        assert await claimed(node) == ["4", "5", "6"]
