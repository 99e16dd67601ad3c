"""Messages of `delivery=one` in transit: the log keeps each until the receiving machine has acknowledged its bytes.

    log ── read or delivered ──▶ written to a sink ── acknowledged (TCP) ──▶ removed from the log
     ▲                                  │
     └────────── unclaimed ◀────────────┘ the connection is lost before that

Such a message may therefore be delivered twice, but it is never lost. This state is not persisted: after a crash, every
message that was in transit is unclaimed.
"""

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from ..net.progress import Progress
from ..telemetry.counters import Counters
from .sink import Sink

CHECK_INTERVAL: Final = 0.02  # seconds from one check of all sinks to the next: a lost connection is noticed so soon
MAX_SINKS_PER_CHECK: Final = 500  # a few milliseconds of work, then other tasks run


class Claims(Protocol):
    """The log's side of `delivery=one`."""

    def taken(self, seqs: Sequence[int]) -> None:
        """These messages have been received: remove them."""
        ...

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        """These messages have not: once the future is done, another subscriber may have them."""
        ...


class UnackedWrite(NamedTuple):
    """A message that was written. It has arrived once the peer has acknowledged `end` bytes of the connection."""

    seq: int
    end: int


class Shipment:
    """All messages in transit to one sink, in the order in which they were written."""

    __slots__ = ("_last_count", "_last_moved", "_last_progress", "_unacked")

    def __init__(self, now: float) -> None:
        self._unacked: deque[UnackedWrite] = deque()
        self._last_progress = Progress(0, 0)  # at the last check
        self._last_count = 0  # the number of writes then
        self._last_moved = now  # when the sink last made progress, on the loop's clock

    def __bool__(self) -> bool:
        return bool(self._unacked)

    def add(self, writes: Iterable[UnackedWrite]) -> None:
        self._unacked += writes

    def arrived(self, progress: Progress, now: float) -> list[UnackedWrite]:
        """Remove and return the writes that have arrived. A check without progress and without unsent bytes proves
        that all writes of the check before have arrived."""
        everything = progress.open and progress.taken == progress.end
        if progress.taken > self._last_progress.taken or progress.waiting < self._last_progress.waiting:
            self._last_moved = now
        quiet = self._last_count if progress == self._last_progress and progress.open and not progress.waiting else 0
        sure = len(self._unacked) if everything else quiet
        arrived: list[UnackedWrite] = []
        while self._unacked and (len(arrived) < sure or self._unacked[0].end <= progress.taken):
            arrived.append(self._unacked.popleft())
        self._last_progress, self._last_count = progress, len(self._unacked)
        return arrived

    def stalled(self, now: float) -> float:
        """Seconds without progress while bytes wait for the sink; 0 if none do."""
        return now - self._last_moved if self._last_progress.waiting else 0.0

    def rest(self) -> list[UnackedWrite]:
        return [*self._unacked]


class Transit:
    def __init__(self, log: Claims, loop: AbstractEventLoop, stall_timeout: float, counters: Counters) -> None:
        """`stall_timeout`: seconds without progress after which a sink is cut off, so that others get its messages."""
        self._log = log
        self._loop = loop
        self._stall_timeout = stall_timeout
        self._counters = counters
        self._shipments: dict[Sink, Shipment] = {}  # least recently checked first
        self._taken: list[int] = []  # seqs that the log has not been told to remove
        self._timer: TimerHandle | None = None

    def add(self, sink: Sink, written: Iterable[tuple[int, int]]) -> None:
        """Messages that were just written to the sink: seq, and the bytes that were written behind each."""
        progress = sink.progress()
        writes = [UnackedWrite(seq, progress.end - behind) for seq, behind in written]
        if writes[-1].end <= progress.taken:
            self._arrived(writes)
            return
        self._shipments.setdefault(sink, Shipment(self._loop.time())).add(writes)
        if self._timer is None:
            self._timer = self._loop.call_later(CHECK_INTERVAL, self._check)

    def give_back(self, seqs: Sequence[int]) -> None:
        """Messages that were not written, or not received."""
        if seqs:
            self._log.give_back(seqs)

    def forget(self) -> None:
        """The log has given back what was in transit."""
        self._shipments, self._taken = {}, []

    def finish(self) -> None:
        """Check for the last time, before the log is closed."""
        if self._timer is not None:
            self._timer.cancel()
        for sink, shipment in self._shipments.items():
            self._arrived(shipment.arrived(sink.progress(), 0.0))
        self._report_taken()

    def _check(self) -> None:
        self._timer = None
        for sink in (*islice(self._shipments, MAX_SINKS_PER_CHECK),):
            self._check_sink(sink, self._shipments.pop(sink), self._loop.time())
        if self._shipments:
            self._timer = self._loop.call_later(CHECK_INTERVAL, self._check)

    def _check_sink(self, sink: Sink, shipment: Shipment, now: float) -> None:
        progress = sink.progress()
        self._arrived(shipment.arrived(progress, now))
        if not progress.open:
            self.give_back([write.seq for write in shipment.rest()])
        elif shipment:
            self._shipments[sink] = shipment
            if shipment.stalled(now) > self._stall_timeout:
                self._counters.evicted += 1
                sink.abort()

    def _arrived(self, writes: Sequence[UnackedWrite]) -> None:
        if writes and not self._taken:
            self._loop.call_soon(self._report_taken)  # not now: the log may be delivering
        self._taken += [write.seq for write in writes]

    def _report_taken(self) -> None:
        if taken := self._taken:
            self._taken = []
            self._log.taken(taken)
