"""A ledger of a consumer group: the leases that its consumers received, how they ended, and the check of both.

The clients of a test run in one thread, so their events have one order: `received` and `ended` are numbers in it. The
server's order may differ, except that whatever a client does after it has received a lease is later in the server too.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

CLOCK_STEP = 0.002  # seconds: times on the wire are in milliseconds


@dataclass(slots=True)
class ReceivedLease:
    """A lease as its consumer received it. `begin` and `end` are the server's times, if the endpoint sends them."""

    id: str
    attempt: int
    body: str
    consumer: str
    begin: float | None
    end: float | None
    received: int = 0
    ended: int | None = None  # when the consumer nacked it, or lost the connection

    @property
    def lease_id(self) -> str:
        return f"{self.id}-{self.attempt}"


@dataclass
class GroupLedger:
    leases: list[ReceivedLease] = field(default_factory=list)
    acked: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # id → attempts with `done`
    dead: dict[str, dict[str, Any]] = field(default_factory=dict)  # id → the `dead` of its dead letter
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unreceived: int = 0  # leases that may have been lost in transit, with connections that were cut
    _events: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def finished(self) -> int:
        """The number of messages that are acked or dead."""
        return len(self.acked) + len(self.dead)

    # What the consumers record

    def leased(self, lease: ReceivedLease) -> None:
        lease.received = next(self._events)
        self.leases.append(lease)

    def ended(self, leases: Iterable[ReceivedLease]) -> None:
        """The leases are being nacked, or their connection is being cut."""
        for lease in leases:
            lease.ended = lease.ended or next(self._events)

    def settled(self, action: str, lease: ReceivedLease, outcome: str) -> None:
        self.outcomes[f"{action} {outcome}"] += 1
        self.faults["a lease that was given is unknown"] += outcome == "unknown"
        if action == "ack" and outcome == "done":
            self.acked[lease.id].add(lease.attempt)

    def dead_lettered(self, record: dict[str, Any], body: str) -> None:
        self.faults["dead twice"] += record["id"] in self.dead
        self.dead[record["id"]] = record | {"body": body}

    # The check

    def check(self, published: set[str], max_deliveries: int) -> Counter[str]:
        """Violations: kind → count. Empty if there are none."""
        attempts: defaultdict[str, list[ReceivedLease]] = defaultdict(list)
        for lease in self.leases:
            attempts[lease.id].append(lease)
        self._check_bodies(published)
        self.faults["lost"] += len(published) - self.finished
        self.faults["both acked and dead"] += len(self.acked.keys() & self.dead.keys())
        for id, leases in attempts.items():
            self._check_message(id, sorted(leases, key=lambda lease: lease.attempt), max_deliveries)
        missing = sum(max(lease.attempt for lease in leases) - len(leases) for leases in attempts.values())
        self.faults["an attempt was left out"] += max(0, missing - self.unreceived)
        self._check_order()
        self._check_deaths(max_deliveries)
        return +self.faults

    def _check_bodies(self, published: set[str]) -> None:
        """Each id has one body, and each body one id."""
        seen = {(lease.id, lease.body) for lease in self.leases}
        seen |= {(id, record["body"]) for id, record in self.dead.items()}
        self.faults["phantom"] += len({body for _, body in seen} - published)
        self.faults["forged"] += len(seen) - len({id for id, _ in seen}) + len(seen) - len({body for _, body in seen})

    def _check_message(self, id: str, leases: list[ReceivedLease], max_deliveries: int) -> None:
        """An ack names its lease: of an acked message, the last attempt was acked."""
        last = leases[-1].attempt
        self.faults["too many attempts"] += last > max_deliveries
        self.faults["handed out after it was acked"] += id in self.acked and max(self.acked[id]) != last
        for one, next_ in pairwise(leases):
            self.faults["one attempt given twice"] += one.attempt == next_.attempt
            self.faults["leased to two at once"] += not _had_ended(one, next_)

    def _check_order(self) -> None:
        """First attempts reach each consumer in the order of the log."""
        last: dict[str, int] = defaultdict(int)
        for lease in self.leases:
            if lease.attempt == 1:
                seq = int(lease.id.split("-")[1])
                self.faults["first delivery out of order"] += seq <= last[lease.consumer]
                last[lease.consumer] = seq

    def _check_deaths(self, max_deliveries: int) -> None:
        for record in self.dead.values():
            self.faults["dead before its last attempt"] += record["attempts"] != max_deliveries
            self.faults["dead without a reason"] += not record["reason"]
            self.faults["failed last before it failed first"] += record["last_failure"] < record["first_failure"]


def _had_ended(lease: ReceivedLease, later: ReceivedLease) -> bool:
    """True if the lease had ended before the later one of the same message began, as far as its consumer knows."""
    if lease.ended is not None and lease.ended < later.received:
        return True
    return lease.end is None or later.begin is None or later.begin >= lease.end - CLOCK_STEP
