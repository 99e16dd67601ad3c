"""The promise of an engine about messages that have failed too often."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from app.errors import DeadLettersLeft, LogFull, NotFound
from app.log.directory import ListQuery
from app.log.groups.job import JOB_COST
from app.log.groups.redrive import RedriveTarget
from app.log.groups.size import GROUP_COST, RECENT_DEAD_COST
from app.log.groups.state import DeadLetterTopic
from app.log.run import DEATH_COST, MESSAGE_COST
from app.log.topic_log import TOPIC_COST, Limits, Retention
from app.messages.lease import Action
from app.messages.message import Death, Id
from app.messages.position import LATEST
from app.storage.engine import Engine
from tests.engines.conftest import Make
from tests.engines.groups import (
    ALL,
    DONE,
    EXPIRED,
    ack,
    all_die,
    bodies,
    claim,
    claimed,
    counters,
    deaths,
    fail,
    joined,
    make,
    settle,
)
from tests.engines.test_contract import append, page, texts
from tests.harness import draft

# When a message dies


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
