"""The wall clock steps, both ways: what lasts goes by the log's own clock, and what is shown follows the wall clock."""

import pytest

from app.log.groups.job import BACKOFF
from app.log.message_clock import CHECK_INTERVAL
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, Outcome, parse_lease_id
from app.messages.message import Delivery, Receipt, Scheduled
from app.messages.position import Ago, Since
from tests.engines.conftest import ENGINES, Make, Opened, opener
from tests.engines.test_contract import append, page, texts
from tests.harness import draft

ALL = Limits(Retention(max_age=1_000.0))
STEPS = (86_400.0, -86_400.0)


@pytest.fixture(params=[engine for engine in ENGINES if "journal" not in engine])  # a journal has a clock of its own
def opened(request: pytest.FixtureRequest) -> Make:
    return opener(request.param)


async def times(node: Opened, topic: str) -> list[float]:
    return [message.time for message in (await page(node, topic)).messages]


async def test_times_follow_a_clock_that_steps_forward(opened: Make) -> None:
    async with opened(ALL) as node:
        clock = node.clock
        await append(node, "a", "before")
        clock.wrong = 3_600.0
        await append(node, "a", "after")
        assert await times(node, "a") == [clock.now, clock.now + 3_600]
        assert await texts(node, "a", start=Since(clock.now + 3_599)) == ["after"]
        delayed = await node.engine.append([draft("a", b"late", delay=10.0)])
        assert isinstance(delayed, Scheduled)
        assert delayed.due == clock.now + 3_610
        await node.engine.join("a", "g")
        lease = (await node.engine.claim("a", "g", count=1, nbytes=1 << 30, seconds=20.0))[0]
        assert lease.expires == clock.now + 3_620


async def test_times_never_run_backward_and_heal_when_the_clock_has_caught_up(opened: Make) -> None:
    async with opened(ALL) as node:
        clock = node.clock
        begin = clock.now
        await append(node, "a", "1")
        clock.wrong = -50.0
        await append(node, "a", "2")
        clock.now += 49
        await append(node, "b", "3")
        clock.now += 2
        await append(node, "a", "4")
        assert await times(node, "**") == [begin, begin, begin, begin + 1]
        assert await texts(node, "**", start=Since(begin + 0.5)) == ["4"]
        assert await texts(node, "**", start=Ago(52.0)) == ["1", "2", "3", "4"]
        assert await texts(node, "**", start=Ago(10.0)) == ["3", "4"]


async def test_one_message_under_a_clock_that_was_ahead_counts_no_longer_than_it_is_kept(opened: Make) -> None:
    async with opened(ALL) as node:
        clock = node.clock
        begin = clock.now
        clock.wrong = 1e8
        await append(node, "a", "of the future")
        clock.wrong = 0.0
        await append(node, "b", "2")
        assert await times(node, "**") == [begin + 1e8, begin + 1e8]
        for topic in "ab":
            await node.engine.drop(topic)
        clock.now += CHECK_INTERVAL
        await append(node, "b", "3")
        assert await times(node, "**") == [clock.now]


@pytest.mark.parametrize("step", STEPS)
async def test_nothing_is_over_too_soon_or_too_late_when_the_clock_steps(opened: Make, step: float) -> None:
    async with opened(ALL) as node:
        clock = node.clock
        await append(node, "old", "1")
        await append(node, "ttl", "1", ttl=100.0)
        await append(node, "key", "1", key="k")
        await append(node, "one", "1", delivery=Delivery.ONE, ttl=100.0)
        await append(node, "work", "1", "2")
        await node.engine.join("work", "g")
        leases = await node.engine.claim("work", "g", count=2, nbytes=1 << 30, seconds=100.0)
        await node.engine.settle("work", "g", Action.NACK, [parse_lease_id(leases[1].id)], 100.0)
        await node.engine.append([draft("late", b"1", delay=100.0)])
        clock.wrong = step
        clock.now += 99
        assert await texts(node, "old") == await texts(node, "ttl") == ["1"]
        assert (await append(node, "key", "1", key="k")).duplicate
        assert await node.engine.claim("work", "g", count=2, nbytes=1 << 30, seconds=100.0) == []
        state = await node.engine.group("work", "g")
        assert (state.leased, state.delayed) == (1, 1)
        assert (await node.engine.topic("late")).delayed == 1
        assert await texts(node, "old", start=Ago(100.0)) == ["1"]
        assert await texts(node, "old", start=Ago(98.0)) == []
        clock.now += 1 + BACKOFF[0]
        assert await texts(node, "ttl") == await texts(node, "one", take=True) == []
        again = await node.engine.claim("work", "g", count=2, nbytes=1 << 30, seconds=100.0)
        assert [lease.attempt for lease in again] == [2, 2]
        assert await texts(node, "late") == ["1"]
        assert await node.engine.settle("work", "g", Action.ACK, [parse_lease_id(again[0].id)]) == [Outcome.DONE]
        clock.now += 21
        assert not (await append(node, "key", "1", key="k")).duplicate
        clock.now += 879
        assert await texts(node, "old") == []


async def test_a_death_is_reported_in_the_wall_clocks_time(opened: Make) -> None:
    async with opened(ALL) as node:
        node.clock.wrong = 3_600.0
        await append(node, "a", "1")
        await node.engine.configure_group("a", "g", {"max_deliveries": 1})
        (lease,) = await node.engine.claim("a", "g", count=1, nbytes=1 << 30, seconds=None)
        await node.engine.settle("a", "g", Action.NACK, [parse_lease_id(lease.id)])
        (dead,) = (await page(node, "a.dead")).messages
        assert dead.death is not None
        assert (dead.death.first_failure, dead.death.last_failure) == (node.clock.now + 3_600,) * 2
        assert dead.time == node.clock.now + 3_600


async def test_trimmed_messages_are_a_gap_by_either_clock(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=1))) as node:
        await append(node, "a", "1")
        node.clock.wrong = 3_600.0
        node.clock.now += 10
        await append(node, "a", "2")
        for start, told in (
            (Ago(11.0), True), (Ago(9.0), False),
            (Since(node.clock.now - 10), True), (Since(node.clock.now - 9), False),
        ):  # fmt: skip
            assert ((await page(node, "a", start=start)).gap is not None) is told


async def test_a_clock_that_runs_a_little_off_changes_nothing(opened: Make) -> None:
    """Two clocks are never read in the same moment."""
    async with opened(ALL) as node:
        for wrong in (0.002, -0.004, 0.001):
            node.clock.wrong = wrong
            answer = await node.engine.append([draft("a", b"x")])
            assert isinstance(answer, Receipt)
            assert (await times(node, "a"))[-1] == node.clock.now
            node.clock.now += 1
