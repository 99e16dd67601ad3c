"""Time and size of a snapshot of a log's state: to take it, to compute its digest alone, and to load it.

    python -m benchmarks.snapshot [ROW ...]

Seconds are CPU time of this process, which other work of the machine hardly changes. `step` is the longest step of
loading: so long does a node that loads a snapshot make its other work wait. `fork` is the start of a process that takes
the snapshot (the least of three): so long does a node wait that goes on meanwhile. ROW: words; only rows whose name has
one of them run.
"""

import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Final

from app.log.epochs import Epochs
from app.log.snapshot.snapshot import Loader, digest, take
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, LeaseId, lease_id
from app.messages.message import Draft, Envelope
from app.messages.ordering import Ordering
from app.storage.replicated.fold import Fold
from app.storage.replicated.snapshot_process import SnapshotProcess
from tests.harness import whole

FULL: Final = 256 << 20  # bytes: the default of --max-total-bytes, and the most that a node of a cluster has
LIMITS: Final = Limits(Retention(10_000_000, 1 << 40, 1e9), total_bytes=1 << 40, topics=100_000, memory_bytes=1 << 40)
NOW: Final = 1.8e9

Fill = Callable[[LogStateMachine], None]


def publish(core: LogStateMachine, number: int, envelope: Envelope, size: int, count: int = 1) -> None:
    core.append([Draft(envelope, [b"%*d" % (size, number)] * count)], NOW + number * 1e-4)
    core.trim()
    core.take_outbox()


def messages(count: int) -> Fill:
    def fill(core: LogStateMachine) -> None:
        for number in range(count):
            publish(core, number, Envelope("t"), 64)

    return fill


def until_full(size: int, *, topics: int = 100, count: int = 1, **options: object) -> Fill:
    """Messages until the state is as large as a node has it."""

    def fill(core: LogStateMachine) -> None:
        number = 0
        while core.log.memory.total < FULL:
            publish(core, number, Envelope(f"t.{number % topics}", **options), size, count)  # type: ignore[arg-type]
            number += 1

    return fill


def jobs(core: LogStateMachine) -> None:
    """A group has everything: half of it is leased, and half waits for the next attempt."""
    whole(core.group_admin.configure("t.0", "g", {}, None, NOW))
    until_full(64, topics=1)(core)
    now = NOW + 1_000
    while leases := core.groups.claim("t.0", "g", count=200, nbytes=1 << 30, seconds=3_600.0, now=now):
        ids: list[LeaseId] = [lease_id(lease) for lease in leases[::2]]
        core.groups.settle("t.0", "g", Action.NACK, ids, seconds=3_600.0, reason="no", now=now)
    core.take_outbox()


ROWS: Final[dict[str, Fill]] = {
    "200,000 messages of 64 B": messages(200_000),
    "256 MiB: messages of 64 B": until_full(64),
    "256 MiB: batches of 50 of 64 B": until_full(64, count=50),
    "256 MiB: messages of 16 KiB": until_full(16 << 10),
    "256 MiB: 64 B, each with a ttl": until_full(64, ttl=1e6),
    "256 MiB: 64 B, each with a key": until_full(64, ordering=Ordering(1, "k")),
    "256 MiB: 64 B in 10,000 topics": until_full(64, topics=10_000),
    "256 MiB: 64 B, each is a job": jobs,
}


def fork(core: LogStateMachine) -> float:
    begin = perf_counter()
    process = SnapshotProcess(Fold(core))
    seconds = perf_counter() - begin
    process.end()
    return seconds


def measure(name: str, fill: Fill) -> None:
    core = LogStateMachine(LIMITS, Epochs("k3f9a2xq"), MemoryMessageStore())
    fill(core)
    begin = process_time()
    chunks = [*take(core)]
    taken = process_time()
    whole_digest = digest(core)
    digested = process_time()
    pause = min(fork(core) for _ in range(3))
    count = sum(topic.messages.live for topic in core.log.topics.values())
    del core
    loader, longest, loading = Loader(LIMITS), 0.0, process_time()
    last = loading
    for chunk in chunks:
        for _ in loader.feed(chunk):
            now = process_time()
            longest, last = max(longest, now - last), now
    loader.finish()
    loaded = process_time()
    assert loader.digest == whole_digest
    size = sum(map(len, chunks)) / 1e6
    print(  # noqa: T201
        f"{name:34}{count:10,}{size:9.1f} MB{taken - begin:8.2f} s{digested - taken:8.2f} s{loaded - loading:8.2f} s"
        f"{longest * 1e3:8.1f} ms{pause * 1e3:8.1f} ms",
        flush=True,
    )


def main() -> None:
    words = sys.argv[1:]
    print(f"{'':34}{'messages':>10}{'size':>12}{'take':>10}{'digest':>10}{'load':>10}{'step':>11}{'fork':>11}")  # noqa: T201
    for name, fill in ROWS.items():
        if not words or any(word in name for word in words):
            measure(name, fill)


if __name__ == "__main__":
    main()
