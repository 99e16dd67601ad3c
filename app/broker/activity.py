"""What a server does for its clients, apart from what its log holds. Workers of one server add theirs up."""

from typing import Protocol, Self, TypeVar

import msgspec

from ..limits import budget
from ..limits.admission import Admission
from ..limits.buffered_bytes import InboundBudget, OutboundBudget
from ..storage.engine import Queries
from ..telemetry.counters import Counters
from ..telemetry.loop_lag import LoopLag

T = TypeVar("T", bound=msgspec.Struct)


class ActivitySource(Protocol):
    """The broker, as it is seen here."""

    log: Queries
    counters: Counters
    loop_lag: LoopLag
    admission: Admission
    inbound: InboundBudget
    outbound: OutboundBudget

    def subscribers(self) -> dict[str, int]: ...


class Counts(msgspec.Struct, frozen=True):
    """Counters: they only grow. `commit_seconds` is the duration of all `commits`."""

    delivered: int = 0
    refused: int = 0
    evicted: int = 0
    gaps: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    failures: int = 0

    def __add__(self, other: Self) -> Self:
        return _sum(self, other)


class Levels(msgspec.Struct, frozen=True):
    """How much there is now. `slots`: taken by subscribers and consumers. `inbound` and `outbound`: bytes in buffers;
    `resident`: of the process."""

    subscribers: int = 0
    consumers: int = 0
    http: int = 0
    line: int = 0
    slots: int = 0
    inbound: int = 0
    outbound: int = 0
    resident: int = 0

    def __add__(self, other: Self) -> Self:
        return _sum(self, other)


class Activity(msgspec.Struct, frozen=True):
    """`loop_delay` is in seconds, the longest of all workers."""

    counts: Counts = Counts()
    levels: Levels = Levels()
    loop_delay: float = 0.0

    def __add__(self, other: Self) -> "Activity":
        return Activity(self.counts + other.counts, self.levels + other.levels, max(self.loop_delay, other.loop_delay))


def _sum(one: T, other: T) -> T:
    return type(one)(*(a + b for a, b in zip(*map(msgspec.structs.astuple, (one, other)), strict=True)))


def activity_of(source: ActivitySource) -> Activity:
    counters, commits, kinds = source.counters, source.log.commits, source.subscribers()
    return Activity(
        Counts(
            counters.delivered, counters.refusals.total(), counters.evicted, counters.gaps, commits.buckets()[-1][1],
            commits.sum, source.log.failures,
        ),
        Levels(
            sum(kinds.values()), kinds["worker"], counters.connections.get("http", 0), counters.connections["line"],
            source.admission.slots, source.inbound.held, source.outbound.held, budget.resident(),
        ),
        source.loop_lag.latest,
    )  # fmt: skip
