"""What is for one subscriber and on its way to it: the log keeps it until the machine at the other end has it.

    log ── read or delivered ──▶ written to a sink ── acknowledged ──▶ the log gives it up
     ▲                                  │
     └──────── it waits again ◀─────────┘ the connection is gone before that

So what may happen to it is a double, and never a loss: nothing of this is written down, and after a crash all that was
on its way waits as before.
"""

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from ..net.progress import Progress
from ..telemetry.counters import Counters
from .sink import Sink

LOOK: Final = 0.02  # seconds between two looks at who has what: a connection that was lost is noticed so soon
AT_ONCE: Final = 500  # sinks in one look: some milliseconds, then others get their turn


class Keeper(Protocol):
    """The log."""

    def taken(self, seqs: Sequence[int]) -> None:
        """These are gone for good."""
        ...

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        """These wait for somebody else, when the future is done."""
        ...


class Parcel(NamedTuple):
    """A message that was written. It has arrived when the sink has taken so many bytes in all."""

    seq: int
    topic: str
    place: int


class Shipment:
    """All that is on its way to one sink, in the order in which it was written."""

    __slots__ = ("_known", "_moved", "_parcels", "_seen")

    def __init__(self, now: float) -> None:
        self._parcels: deque[Parcel] = deque()
        self._seen = Progress(0, 0)  # at the last look
        self._known = 0  # parcels that there were then
        self._moved = now  # when the sink was last seen to have taken something

    def __bool__(self) -> bool:
        return bool(self._parcels)

    def add(self, parcels: Iterable[Parcel]) -> None:
        self._parcels += parcels

    def arrived(self, progress: Progress, now: float) -> list[Parcel]:
        """Those that have by now; they are no longer in here. Where nothing waits, nor has moved, nothing is hidden."""
        everything = progress.open and progress.taken == progress.end
        if progress.taken > self._seen.taken or progress.waiting < self._seen.waiting:
            self._moved = now
        quiet = self._known if progress == self._seen and progress.open and not progress.waiting else 0
        sure = len(self._parcels) if everything else quiet
        arrived: list[Parcel] = []
        while self._parcels and (len(arrived) < sure or self._parcels[0].place <= progress.taken):
            arrived.append(self._parcels.popleft())
        self._seen, self._known = progress, len(self._parcels)
        return arrived

    def stalled(self, now: float) -> float:
        """Seconds since the sink took anything of what waits for it."""
        return now - self._moved if self._seen.waiting else 0.0

    def rest(self) -> list[Parcel]:
        return [*self._parcels]


class Transit:
    def __init__(
        self, authenticator: Keeper, loop: AbstractEventLoop, stall_timeout: float, counters: Counters,
        waits_again: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`stall_timeout`: seconds after which a sink that takes nothing is cut off, so that others get what waits for
        it. `waits_again` hears of a topic in which something waits again."""
        self._keeper = authenticator
        self._loop = loop
        self._stall_timeout = stall_timeout
        self._counts = counters
        self._waits_again = waits_again
        self._shipments: dict[Sink, Shipment] = {}  # those that were looked at longest ago first
        self._taken: list[int] = []  # seqs, and the log does not know yet
        self._timer: TimerHandle | None = None

    def add(self, sink: Sink, written: Iterable[tuple[int, str, int]]) -> None:
        """These (seq, topic, bytes that were written behind it) were just written to the sink."""
        progress = sink.progress()
        parcels = [Parcel(seq, topic, progress.end - behind) for seq, topic, behind in written]
        if parcels[-1].place <= progress.taken:
            self._arrived(parcels)
            return
        self._shipments.setdefault(sink, Shipment(self._loop.time())).add(parcels)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK, self._look)

    def give_back(self, written: Iterable[tuple[int, str]]) -> None:
        """These (seq, topic) were written to nobody, or not taken."""
        topics = dict(written)
        if topics:
            self._keeper.give_back([*topics]).add_done_callback(lambda _done: self._tell(topics.values()))

    def finish(self) -> None:
        """Look for the last time: the log is about to be closed."""
        if self._timer is not None:
            self._timer.cancel()
        for sink, shipment in self._shipments.items():
            self._arrived(shipment.arrived(sink.progress(), 0.0))
        self._tell_taken()

    def _look(self) -> None:
        self._timer = None
        for sink in (*islice(self._shipments, AT_ONCE),):
            self._look_at(sink, self._shipments.pop(sink), self._loop.time())
        if self._shipments:
            self._timer = self._loop.call_later(LOOK, self._look)

    def _look_at(self, sink: Sink, shipment: Shipment, now: float) -> None:
        progress = sink.progress()
        self._arrived(shipment.arrived(progress, now))
        if not progress.open:
            self.give_back((parcel.seq, parcel.topic) for parcel in shipment.rest())
        elif shipment:
            self._shipments[sink] = shipment
            if shipment.stalled(now) > self._stall_timeout:
                self._counts.evicted += 1
                sink.abort()

    def _arrived(self, parcels: Sequence[Parcel]) -> None:
        if parcels and not self._taken:
            self._loop.call_soon(self._tell_taken)  # not now: the log may be in the middle of a delivery
        self._taken += [parcel.seq for parcel in parcels]

    def _tell_taken(self) -> None:
        if taken := self._taken:
            self._taken = []
            self._keeper.taken(taken)

    def _tell(self, topics: Iterable[str]) -> None:
        for topic in dict.fromkeys(topics):
            self._waits_again(topic)
