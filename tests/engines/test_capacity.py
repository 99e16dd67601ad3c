"""What is in memory even if messages are on a disk is bounded, on every engine."""

from typing import Any

import pytest

from app.errors import LogFull
from app.log.groups.job import JOB_COST
from app.log.groups.size import GROUP_COST
from app.log.run import EXPIRY_COST, ONE_COST
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, LeaseId
from app.messages.message import ONE, Id
from tests.engines.conftest import Make, Opened
from tests.harness import draft

ROOMY = Retention(max_messages=1_000)


async def publish(node: Opened, count: int, topic: str = "a", **options: Any) -> None:
    for _ in range(count):
        await node.engine.append([draft(topic, b"x", **options)])


async def claim(node: Opened, count: int) -> list[str]:
    leases = await node.engine.claim("a", "g", count=count, nbytes=1 << 20, seconds=100.0)
    return [lease.id for lease in leases]


@pytest.mark.parametrize(
    ("cost", "options"),
    [(EXPIRY_COST, {"ttl": 99}), (ONE_COST, {"delivery": ONE}), (EXPIRY_COST + ONE_COST, {"delivery": ONE, "ttl": 9})],
    ids=["ttl", "one", "both"],
)  # fmt: skip
async def test_what_is_known_of_messages_has_an_end_and_others_are_taken(
    opened: Make, cost: int, options: dict[str, Any]
) -> None:
    async with opened(Limits(ROOMY, memory_bytes=10 * cost + cost // 2)) as node:
        await publish(node, 10, **options)
        with pytest.raises(LogFull, match="of memory are taken for what is delayed, leased, for one subscriber or has"):
            await publish(node, 1, **options)
        with pytest.raises(LogFull):
            await publish(node, 1, "b", **options)
        await publish(node, 100)
        await node.engine.drop("a")
        await publish(node, 10, **options)


async def test_what_takes_the_place_of_as_much_is_taken(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=10), memory_bytes=10 * EXPIRY_COST)) as node:
        await publish(node, 30, ttl=100.0)
        assert (await node.engine.topic("a")).messages == 10
        with pytest.raises(LogFull):
            await publish(node, 1, "b", ttl=100.0)
        node.clock.now += 100.0
        await publish(node, 1, "b", ttl=100.0)


async def test_leases_are_bounded_and_a_waiting_consumer_gets_the_next_when_one_is_over(opened: Make) -> None:
    async with opened(Limits(ROOMY, memory_bytes=GROUP_COST + 3 * JOB_COST)) as node:
        await node.engine.configure_group("a", "g", {})
        await publish(node, 9)
        leases = await claim(node, 2)
        assert len(leases) == 2
        assert len(await claim(node, 2)) == 1
        with pytest.raises(LogFull):
            await claim(node, 2)
        node.readied.clear()
        await node.engine.settle("a", "g", Action.ACK, [LeaseId(Id(node.engine.epoch, 1))], None)
        assert node.readied == [("a", "g")]
        assert await claim(node, 9) == [f"{node.engine.epoch}-4-1"]
        with pytest.raises(LogFull):
            await node.engine.configure_group("b", "g", {})
        await node.engine.settle("a", "g", Action.NACK, [LeaseId(Id(node.engine.epoch, 2))], 0.0)
        assert await claim(node, 9) == [f"{node.engine.epoch}-2-2"]  # it took its room before


async def test_no_lease_is_refused_when_there_is_nothing_to_lease(opened: Make) -> None:
    async with opened(Limits(ROOMY, memory_bytes=GROUP_COST)) as node:
        await node.engine.configure_group("a", "g", {})
        assert await claim(node, 1) == []


async def test_groups_count_and_give_back_what_they_took(opened: Make) -> None:
    async with opened(Limits(ROOMY, memory_bytes=3 * GROUP_COST)) as node:
        for _ in range(3):
            for name in "abc":
                await node.engine.configure_group(name, "g", {})
            with pytest.raises(LogFull):
                await node.engine.configure_group("d", "g", {})
            await node.engine.drop_group("a", "g")
            await node.engine.drop("b")
            await node.engine.drop("c")
