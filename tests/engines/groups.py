"""What tests of groups do with an engine."""

from collections.abc import Sequence

from app.log.topic_log import Limits
from app.messages.lease import Action, Lease, Outcome, parse_lease_id
from app.messages.message import Death
from tests.engines.conftest import Opened
from tests.engines.test_contract import append, page

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
