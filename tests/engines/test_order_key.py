"""Order by key: of the messages with one key, a group has one leased at a time, in order. On every engine."""

import pytest

from app.log.groups import ordered_keys
from app.log.topic_log import Limits
from app.messages.lease import Action
from app.messages.message import parse_id
from app.messages.ordering import make_ordering
from app.messages.position import After
from tests.engines.conftest import Make, Opened
from tests.engines.groups import ack, claim, claimed, counters, fail, make, settle
from tests.engines.test_contract import append

ALL = Limits()


async def publish(node: Opened, key: str | None, *texts: str, priority: int = 0) -> None:
    await append(node, "a", *texts, ordering=make_ordering(priority, key))


async def test_one_of_a_key_is_leased_at_a_time_in_order_and_others_overtake(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", "k1", "k2", "k3")
        await publish(node, "l", "l1", "l2")
        await publish(node, None, "plain")
        first, other, plain = await claim(node)
        assert [lease.message.data for lease in (first, other, plain)] == [b"k1", b"l1", b"plain"]
        assert await claimed(node) == []
        assert await counters(node) == (3, 3, 0, 0, 0)
        await ack(node, first)
        assert await claimed(node) == ["k2"]
        await ack(node, plain, other)
        assert await claimed(node) == ["l2"]


async def test_a_retry_delay_blocks_its_key_only(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", "k1", "k2")
        await publish(node, "l", "l1")
        (lease,) = await claim(node, 1)
        await settle(node, Action.NACK, lease, seconds=5.0)
        assert await claimed(node) == ["l1"]
        node.clock.now += 5.0
        assert await claimed(node) == ["k1"]


async def test_an_expired_lease_keeps_the_key(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node, ack_timeout=5.0)
        await publish(node, "k", "k1", "k2")
        assert await claimed(node) == ["k1"]
        node.clock.now += 6.0
        assert await claimed(node) == ["k1"]


@pytest.mark.parametrize("action", [Action.ACK, Action.SKIP, Action.NACK])
async def test_an_ack_a_skip_and_a_death_make_the_next_ready(opened: Make, action: Action) -> None:
    async with opened(ALL) as node:
        await make(node, max_deliveries=1)
        await publish(node, "k", "k1", "k2")
        (lease,) = await claim(node)
        node.readied.clear()
        await settle(node, action, lease, seconds=0 if action is Action.NACK else None)
        assert ("a", "g") in node.readied
        assert await claimed(node) == ["k2"]


async def test_what_waits_can_be_skipped_and_its_key_goes_to_the_next(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", "k1", "k2", "k3")
        (lease,) = await claim(node)
        await settle(node, Action.SKIP, f"{node.engine.epoch}-2")
        await ack(node, lease)
        assert await claimed(node) == ["k3"]


async def test_two_groups_have_a_key_each(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await make(node, "h")
        await publish(node, "k", "k1", "k2")
        assert await claimed(node) == ["k1"]
        assert await claimed(node, group="h") == ["k1"]


async def test_a_group_takes_up_no_new_message_while_too_many_wait(
    opened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered_keys, "KEY_LOOKAHEAD", 3)
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", *(f"k{n}" for n in range(6)))
        await publish(node, None, "behind")
        (lease,) = await claim(node)  # k1, k2 and k3 wait
        await ack(node, lease)
        (lease,) = await claim(node)  # k4 too, and k5 does not yet
        assert lease.message.data == b"k1"
        await ack(node, lease)
        assert await claimed(node) == ["k2", "behind"]


async def test_a_higher_priority_overtakes_even_those_of_its_key_but_never_while_one_is_leased(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", "low")
        await publish(node, "k", "high", priority=5)
        (lease,) = await claim(node)
        assert lease.message.data == b"high"
        await ack(node, lease)
        assert await claimed(node) == ["low"]


async def test_of_those_that_wait_for_a_key_a_higher_priority_comes_first(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", "k1", "k2")
        (first,) = await claim(node)
        await publish(node, "k", "high", priority=1)
        assert await claimed(node) == []  # now both wait
        await ack(node, first)
        (high,) = await claim(node)
        assert high.message.data == b"high"
        await ack(node, high)
        assert await claimed(node) == ["k2"]


async def test_many_workers_see_each_key_in_order(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        for n in range(40):
            await publish(node, f"key{n % 4}", f"{n % 4}-{n // 4}")
        seen: dict[str, list[int]] = {}
        while leases := await claim(node, 3):
            assert len({lease.message.ordering for lease in leases}) == len(leases)
            for lease in reversed(leases):
                key, number = lease.message.data.decode().split("-")
                seen.setdefault(key, []).append(int(number))
                await ack(node, lease)
        assert seen == {str(key): [*range(10)] for key in range(4)}


async def test_a_failed_message_returns_before_the_next_of_its_key(opened: Make) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", "k1", "k2")
        await fail(node, 3)
        assert await claimed(node) == ["k1"]


@pytest.mark.parametrize("how", ["skip", "seek"])
async def test_what_is_done_before_it_is_handed_out_lets_the_next_of_its_key_go_on(opened: Make, how: str) -> None:
    async with opened(ALL) as node:
        await make(node)
        await publish(node, "k", "k1", "k2", "k3")
        first = (await claim(node))[0]  # the others wait for its key
        second = f"{first.message.epoch}-{first.message.seq + 1}"
        if how == "skip":
            await ack(node, first)  # now the second is next, and nobody has it yet
            await settle(node, Action.SKIP, second)
        else:
            await node.engine.seek("a", "g", (second, After(parse_id(second))))
        assert await claimed(node) == ["k3"]
