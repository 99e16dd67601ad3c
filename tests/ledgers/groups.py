"""The ledger of a group: which leases its workers were given, what became of them, and the offline check of both.

The clients of a test run in one thread, so the order in which they saw things is one: `seen` and `over` are places in
it. It is not the server's order, but what a client did after it had seen a lease came later in the server, too.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

CLOCK_STEP = 0.002  # seconds: times on the wire are in milliseconds


@dataclass(slots=True)
class Grant:
    """A lease as its worker saw it. `begin` and `end` are the server's times, where the door tells them."""

    id: str
    attempt: int
    body: str
    worker: str
    begin: float | None
    end: float | None
    seen: int = 0
    over: int | None = None  # when the worker nacked it, or lost the connection it came by

    @property
    def lease(self) -> str:
        return f"{self.id}-{self.attempt}"


@dataclass
class GroupLedger:
    grants: list[Grant] = field(default_factory=list)
    acked: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # id → attempts said `done`
    dead: dict[str, dict[str, Any]] = field(default_factory=dict)  # id → the `dead` of its dead letter
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unseen: int = 0  # at most so many leases were lost on the way, with connections that were cut
    _places: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def finished(self) -> int:
        """How many messages are acked or dead."""
        return len(self.acked) + len(self.dead)

    # What the workers write

    def given(self, grant: Grant) -> None:
        grant.seen = next(self._places)
        self.grants.append(grant)

    def ending(self, grants: Iterable[Grant]) -> None:
        """In this moment they are nacked, or the connection they came by is cut."""
        for grant in grants:
            grant.over = grant.over or next(self._places)

    def settled(self, action: str, grant: Grant, outcome: str) -> None:
        self.outcomes[f"{action} {outcome}"] += 1
        self.faults["a lease that was given is unknown"] += outcome == "unknown"
        if action == "ack" and outcome == "done":
            self.acked[grant.id].add(grant.attempt)

    def died(self, record: dict[str, Any], body: str) -> None:
        self.faults["dead twice"] += record["id"] in self.dead
        self.dead[record["id"]] = record | {"body": body}

    # What is checked when all is over

    def check(self, published: set[str], max_deliveries: int) -> Counter[str]:
        """How often each promise was broken; empty when all hold."""
        attempts: defaultdict[str, list[Grant]] = defaultdict(list)
        for grant in self.grants:
            attempts[grant.id].append(grant)
        self._check_bodies(published)
        self.faults["lost"] += len(published) - self.finished
        self.faults["both acked and dead"] += len(self.acked.keys() & self.dead.keys())
        for id, grants in attempts.items():
            self._check_message(id, sorted(grants, key=lambda grant: grant.attempt), max_deliveries)
        missing = sum(max(grant.attempt for grant in grants) - len(grants) for grants in attempts.values())
        self.faults["an attempt was left out"] += max(0, missing - self.unseen)
        self._check_order()
        self._check_deaths(max_deliveries)
        return +self.faults

    def _check_bodies(self, published: set[str]) -> None:
        """An id has one body, and a body one id."""
        seen = {(grant.id, grant.body) for grant in self.grants}
        seen |= {(id, record["body"]) for id, record in self.dead.items()}
        self.faults["phantom"] += len({body for _, body in seen} - published)
        self.faults["forged"] += len(seen) - len({id for id, _ in seen}) + len(seen) - len({body for _, body in seen})

    def _check_message(self, id: str, grants: list[Grant], max_deliveries: int) -> None:
        """Every ack names its lease: when one is `done`, then that of the last attempt was, too."""
        last = grants[-1].attempt
        self.faults["too many attempts"] += last > max_deliveries
        self.faults["handed out after it was acked"] += id in self.acked and max(self.acked[id]) != last
        for one, next_ in pairwise(grants):
            self.faults["one attempt given twice"] += one.attempt == next_.attempt
            self.faults["leased to two at once"] += not _was_over(one, next_)

    def _check_order(self) -> None:
        """Each worker's first deliveries are in the order of the log."""
        last: dict[str, int] = defaultdict(int)
        for grant in self.grants:
            if grant.attempt == 1:
                seq = int(grant.id.split("-")[1])
                self.faults["first delivery out of order"] += seq <= last[grant.worker]
                last[grant.worker] = seq

    def _check_deaths(self, max_deliveries: int) -> None:
        for record in self.dead.values():
            self.faults["dead before its last attempt"] += record["attempts"] != max_deliveries
            self.faults["dead without a reason"] += not record["reason"]
            self.faults["failed last before it failed first"] += record["last_failure"] < record["first_failure"]


def _was_over(lease: Grant, later: Grant) -> bool:
    """Whether the lease was over when the later one of its message was given, as far as its worker can tell."""
    if lease.over is not None and lease.over < later.seen:
        return True
    return lease.end is None or later.begin is None or later.begin >= lease.end - CLOCK_STEP
