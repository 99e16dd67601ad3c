"""Priorities: a group hands out higher ones first, and none starves. On every engine."""

import pytest

from app.log.groups import choice
from app.log.groups.choice import AHEAD_SHARE, MAX_OVERTAKING
from app.log.groups.job import JobState
from app.log.groups.listing import JobQuery
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action
from app.messages.ordering import make_ordering
from tests.engines.conftest import Make, Opened
from tests.engines.groups import ack, claim, claimed, counters, fail, make, settle
from tests.engines.test_contract import append, page

ALL = Limits()


async def publish(node: Opened, priority: int, *texts: str, **options: object) -> None:
    await append(node, "a", *texts, ordering=make_ordering(priority, None), **options)


async def test_higher_priorities_are_handed_out_first_and_each_in_order(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, 0, "low1", "low2")
        await publish(node, 5, "mid1", "mid2")
        await publish(node, 9, "top1", "top2")
        assert await claimed(node, 3) == ["top1", "top2", "mid1"]
        await publish(node, 9, "top3")
        assert await claimed(node) == ["top3", "mid2", "low1", "low2"]
        assert await counters(node) == (0, 7, 0, 0, 0)


async def test_a_message_shows_its_priority_only_if_it_has_one(opened: Make) -> None:
    async with opened(ALL) as node:
        await publish(node, 0, "plain")
        await publish(node, 4, "some")
        plain, some = (await page(node, "a")).messages
        assert plain.ordering is None
        assert some.ordering is not None
        assert some.ordering.shown == {"priority": 4}


async def test_a_group_that_is_made_later_knows_the_priorities(opened: Make) -> None:
    async with opened(ALL) as node:
        await publish(node, 0, "low")
        await publish(node, 3, "high")
        await make(node)
        assert await claimed(node) == ["high", "low"]


async def test_a_failed_attempt_comes_before_new_messages_of_its_priority_only(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, 1, "low")
        (low,) = await claim(node)
        await publish(node, 1, "low2")
        await publish(node, 2, "high")
        await settle(node, Action.NACK, low, seconds=0)
        assert await claimed(node) == ["high", "low", "low2"]


async def test_after_some_that_overtake_the_oldest_lower_one_comes(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, 0, "old")
        await publish(node, 5, "mid")
        await publish(node, 0, "new")
        tops = [f"top{n:02}" for n in range(3 * MAX_OVERTAKING)]
        await publish(node, 9, *tops)
        every = [text for _ in range(3 * MAX_OVERTAKING + 3) for text in await claimed(node, 1)]
        part = MAX_OVERTAKING
        assert every == [*tops[:part], "old", *tops[part : 2 * part], "mid", *tops[2 * part :], "new"]


async def test_no_level_starves_while_higher_ones_keep_coming(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        for level in range(9):
            await publish(node, level, f"level{level}")
        seen: list[str] = []
        for n in range(100):
            await publish(node, 9, f"top{n}")
            leases = await claim(node, 1)
            await ack(node, *leases)
            seen += [lease.message.data.decode() for lease in leases if b"level" in lease.message.data]
        assert seen == [f"level{level}" for level in range(9)]


async def test_a_retry_counts_as_overtaking_too(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=50)
        await publish(node, 0, "low")
        await publish(node, 9, "bad")
        await fail(node, MAX_OVERTAKING)
        assert await claimed(node, 1) == ["low"]


async def test_what_overtook_takes_up_a_part_of_the_topic_only(opened: Make) -> None:
    """Then what was overtaken comes first, so that publishers of a higher priority find room again."""
    most = 20
    async with opened(Limits(Retention(max_messages=most))) as node:
        await make(node)
        await publish(node, 0, *(f"low{n}" for n in range(10)))
        for n in range(100):
            await publish(node, 9, f"top{n}")  # never refused
            leases = await claim(node, 2)
            await ack(node, *leases)
        assert (await counters(node))[0] <= most // AHEAD_SHARE


async def test_listing_and_counting_know_messages_in_any_order(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, 0, "1", "2")
        await publish(node, 9, "3", "4")
        await ack(node, *await claim(node, 1))
        assert await claimed(node, 1) == ["4"]
        assert await counters(node) == (2, 1, 0, 1, 0)
        for state, texts in ((JobState.READY, ["1", "2"]), (JobState.LEASED, ["4"])):
            jobs = (await node.engine.jobs(JobQuery("a", "g", state, 0, 10))).jobs
            assert [job.message.data.decode() for job in jobs] == texts


async def test_a_group_s_settings_can_change_while_a_message_of_a_priority_is_leased_again(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, 1, "a", "b")
        await fail(node, 1)
        await claim(node, 1)
        await make(node, max_deliveries=1)
        assert await claimed(node) == ["b"]
        assert await counters(node) == (0, 2, 0, 0, 0)


async def test_a_dead_message_keeps_its_priority(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=1)
        await publish(node, 7, "a")
        await fail(node, 1)
        (dead,) = (await page(node, "a.dead")).messages
        assert dead.ordering == make_ordering(7, None)


async def test_an_expired_message_is_passed_over(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, 9, "short", ttl=5.0)
        await publish(node, 9, "long")
        node.clock.now += 6.0
        assert await claimed(node) == ["long"]


async def test_a_topic_that_has_no_priorities_any_more_goes_on(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, 9, "top")
        await publish(node, 0, "1", "2", "3")
        first, second = await claim(node, 2)
        await ack(node, first)
        await settle(node, Action.NACK, second, seconds=0)
        await node.engine.configure("a", {"max_messages": 3})
        assert await claimed(node) == ["1", "2", "3"]


async def test_a_long_search_for_lower_ones_holds_nothing_back(opened: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SEARCH_BATCH", 4)
    async with opened(ALL) as node:
        await make(node)
        tops = [f"top{n:02}" for n in range(20)]
        await publish(node, 9, *tops)
        await publish(node, 0, "low")
        seen = [text for _ in range(21) for text in await claimed(node, 1)]
        assert [text for text in seen if text != "low"] == tops
        assert MAX_OVERTAKING <= seen.index("low") < len(tops)
        assert await claimed(node) == []
