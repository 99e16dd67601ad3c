"""Who listens. Readers that asked for the same thing in the same form are a cohort: they get the same bytes.

A message's way: deliver() puts its frame into the batch of every cohort that selects it; once per turn of the event
loop each batch is joined once and written to every member. Then as long is left for more to come as the writing took,
or twice as long if there were several small messages in it: who is idle writes at once, and who is busy writes less
often. A reader whose socket is full leaves its cohort with a cursor, reads on from the log when the socket drains, and
is a member again once it is at the head:

            start()                        read to the head
    (new) ───────────▶ AWAY, with cursor ────────────────▶ MEMBER, at the head
                             ▲                                  │
                             └──────────────────────────────────┘
                                    pause(): the socket is full

There is no queue per reader, and nothing here awaits.
"""

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, Protocol, TypeVar

from ..limits.buffered_bytes import OutboundBudget
from ..limits.quotas import places
from ..limits.stall import StallWatch
from ..log.reading import Page
from ..messages.message import ONE, Message
from ..messages.position import LATEST, Cursor, Start
from ..messages.topic import TopicFilter
from ..telemetry.counters import Counters
from .encoder import Encoder
from .sink import Sink
from .transit import Transit

PAGE: Final = 1_000  # messages in one write to a reader that catches up
BATCH: Final = 256 << 10  # bytes that are gathered in one turn, about: a reader that is full by then gets no more
SMALL: Final = 16 << 10  # bytes of a batch: to write so many costs about twice what any write does

T = TypeVar("T")


class Source(Protocol):
    """The log as readers see it. The futures of a log in memory are done when they are returned."""

    @property
    def epoch(self) -> str: ...

    def waits(self, topic_filter: TopicFilter) -> bool:
        """Whether something may be kept there for a first subscriber: who starts with what comes has to read it."""
        ...

    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]: ...

    def read_on(self, topic_filter: TopicFilter, cursor: Cursor, upto: int, limit: int, take: bool) -> Future[Page]:
        """One write's worth of the log, up to that place and at most `limit` messages; with `take`, also what was kept
        for one subscriber."""
        ...

    def taken(self, seqs: Sequence[int]) -> None:
        """What was handed out for one subscriber is with it."""

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        """It is not: somebody else shall have it."""


class Subscribers(Protocol):
    """What the readers of a broker have in common."""

    source: Source
    loop: AbstractEventLoop
    counters: Counters
    outbound: OutboundBudget
    transit: Transit
    stall_timeout: float  # seconds
    head: int
    """seq of the last message delivered: where members are, once the batches are written."""

    def discard(self, reader: "Subscriber") -> None:
        """It is gone. Idempotent."""

    def report(self, message: str, error: BaseException) -> None: ...


class Cohort:
    """The readers of one selection in one form."""

    __slots__ = ("_batch", "_counts", "_size", "away", "form", "members", "places", "topic_filter")

    def __init__(self, topic_filter: TopicFilter, form: Encoder, counters: Counters) -> None:
        self.topic_filter = topic_filter
        self.places = places(topic_filter.memory)  # that each of its readers takes
        self.form = form
        self._counts = counters
        self.members: dict[Subscriber, None] = {}  # at the head, in the order they came
        self.away: set[Subscriber] = set()  # behind it, each at its cursor
        self._batch: list[bytes] = []
        self._size = 0  # bytes in there

    def __len__(self) -> int:
        return len(self.members) + len(self.away)

    def add(self, frames: Sequence[bytes]) -> bool:
        """Put the frames into this turn's batch; True when they are the first there."""
        first = not self._batch
        self._batch += frames
        self._size += sum(map(len, frames))
        return first

    @property
    def coalescable(self) -> bool:
        """Joining spares something: the batch has several messages, and small ones, so a write costs what a write costs
        and not what its bytes do."""
        return len(self._batch) > 1 and self._size < SMALL

    @property
    def over_limit(self) -> bool:
        """The batch is large enough to be written before another message comes, though the turn is not over."""
        return self._size > BATCH

    def flush(self) -> None:
        """Write the batch: joined once, the same bytes to every member."""
        if batch := self._batch:
            self._batch, self._size = [], 0
            data, members = self.form.join(batch), len(self.members)
            if self.form.is_subscriber:
                self._counts.deliver(len(batch) * members, len(data) * members)
            full = self.write(data)
            for reader in full:
                reader.buffered(len(data) // members)

    def write(self, data: bytes) -> "list[Subscriber]":
        """Answers who has left: a write may pause its reader."""
        members = tuple(self.members)
        for reader in members:
            reader.sink.write(data)
        return [] if len(self.members) == len(members) else [reader for reader in members if reader._paused]

    @property
    def page_limit(self) -> int:
        """How many messages a reader may be given at once."""
        return PAGE

    def delivered(self, count: int) -> None:
        """So many messages went to a reader other than through a batch."""


class LimitedCohort(Cohort):
    """One reader that wants so many messages and then an end; nobody can share its batches."""

    __slots__ = ("_left",)

    def __init__(self, topic_filter: TopicFilter, form: Encoder, counters: Counters, limit: int) -> None:
        super().__init__(topic_filter, form, counters)
        self._left = limit

    @property
    def page_limit(self) -> int:
        return min(PAGE, self._left)

    def add(self, frames: Sequence[bytes]) -> bool:
        frames = frames[: self._left]
        first = super().add(frames)
        self.delivered(len(frames))
        return first

    def delivered(self, count: int) -> None:
        self._left -= count
        if self._left <= 0:
            self.flush()
            for reader in (*self.members, *self.away):
                reader.stop_at_limit()


class Subscriber:
    """One subscription: a cursor into the log, and where its bytes go. Cohorts.subscribe() makes it."""

    __slots__ = (
        "_again",
        "_cursor",
        "_paused",
        "_placed",
        "_readers",
        "_reading",
        "_stall",
        "_timeout",
        "client",
        "cohort",
        "expires",
        "sink",
    )  # fmt: skip

    def __init__(
        self, readers: Subscribers, cohort: Cohort, sink: Sink, expires: float, client: str | None = None
    ) -> None:
        self._readers = readers
        self.client = client
        self.cohort = cohort
        self.sink = sink
        self.expires = expires  # on the loop's clock
        self._cursor: Cursor | None = None  # None before the start is located, and while a member
        self._paused = False
        self._reading = False  # a page is on its way
        self._again = False  # there may be more than it says
        self._placed = False  # the last id that was written is where the reader is
        self._stall: StallWatch | None = None  # while it is paused
        self._timeout: TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self not in self.cohort.members and self not in self.cohort.away

    def start(self, start: Start) -> None:
        """Write what the start asks for, then live messages, without a hole or a duplicate between them."""
        source, topic_filter = self._readers.source, self.cohort.topic_filter
        if start is LATEST and self in self.cohort.away and not (self._paused or source.waits(topic_filter)):
            self._join()  # as most do, and there is nothing to read
        else:
            self._when(source.locate(topic_filter, start), self._read_from)

    def end_in(self, seconds: float, reason: str) -> None:
        """End it when that time is over."""
        self._timeout = self._readers.loop.call_later(seconds, self.end, reason)

    def pause(self) -> None:
        """The socket is full: stay at this place until it drains. Idempotent."""
        if self._paused or self.closed:
            return
        self._paused = True
        self._step_aside()
        readers = self._readers
        self._stall = StallWatch(self.sink, readers.loop, readers.stall_timeout, readers.counters)
        self._stall.start()

    def resume(self) -> None:
        """The socket has drained: read on. Idempotent."""
        if self._paused and not self.closed and self.cohort.page_limit:
            self._paused = False
            self._unwatch()
            self._readers.outbound.drained(self)
            self._read_on()

    def look_behind(self) -> None:
        """Something for one subscriber waits again: read it, as soon as it can."""
        self._step_aside()
        self._again = True
        self._read_on()

    def _step_aside(self) -> None:
        if self in self.cohort.members:
            self.cohort.flush()  # at most a turn's batch, so that the place is the head whatever is pending
            self._cursor = Cursor(self._readers.head, 0)
            self.cohort.members.pop(self, None)
            self.cohort.away.add(self)

    def buffered(self, nbytes: int) -> None:
        """So many bytes were written to its socket, which is full if it is paused."""
        if self._paused and not self.closed:
            self._readers.outbound.owe(self, nbytes)

    def evict(self) -> None:
        """Cut it off: it has not taken what it was given."""
        if not self.closed:
            self._readers.counters.evicted += 1
            self.sink.abort()

    def end(self, reason: str) -> None:
        """End it in good order, after everything it was given. Idempotent."""
        if not self.closed:
            self.cohort.flush()
            self.sink.end(reason)

    def stop_at_limit(self) -> None:
        """It has all it wanted: take no more, and end soon (not now: its cohort may be in a delivery)."""
        self._paused = True
        self.cohort.members.pop(self, None)
        self.cohort.away.add(self)
        self._readers.loop.call_soon(self.end, "limit")

    def detach(self) -> None:
        """The reader is gone. Idempotent."""
        self._unwatch()
        self._readers.outbound.drained(self)
        if self._timeout is not None:
            self._timeout.cancel()
        self._readers.discard(self)

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def _read_from(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._read_on()

    def _read_on(self) -> None:
        if self._cursor is not None and not (self._reading or self._paused or self.closed):
            self._reading, self._again = True, False
            cohort, readers = self.cohort, self._readers
            page = readers.source.read_on(
                cohort.topic_filter, self._cursor, readers.head, limit=cohort.page_limit, take=cohort.form.is_subscriber
            )
            self._when(page, self._write_page)

    def _write_page(self, page: Page) -> None:
        self._reading = False
        if self.closed:
            self._readers.transit.give_back(
                (message.seq, message.topic) for message in page.messages if message.delivery is ONE
            )
            return
        form = self.cohort.form
        frames = [form.encode(message) for message in page.messages]
        for_one = _for_one(page.messages, frames)
        if page.gap is not None and (frame := form.gap(page.gap)):
            frames.insert(0, frame)
            self._placed = False
            self._readers.counters.gaps += form.is_subscriber
        if page.messages:
            self._placed = self._cursor is not None and page.messages[-1].seq > self._cursor.seq
        self._cursor = page.cursor
        if frames:
            data = form.join(frames)
            if form.is_subscriber:
                self._readers.counters.deliver(len(page.messages), len(data))
            self.sink.write(data)
            if for_one:
                self._readers.transit.add(self.sink, for_one)
            self.buffered(len(data))
        self.cohort.delivered(len(page.messages))
        if self._paused or self.closed:
            return
        if page.cursor.seq >= self._readers.head and not (page.behind or self._again):
            self._join()
        else:
            self._readers.loop.call_soon(self._read_on)  # one page a turn, so that nobody else waits

    def _join(self) -> None:
        """Become a member. What is in the cohort's batch by now was read from the log already, so it goes first.

        Who has no id yet, or one that is not its place, is told the place: whoever is cut off then comes back to it."""
        self.cohort.flush()
        readers, form = self._readers, self.cohort.form
        if not self._placed and (place := _place(form, readers.source.epoch, readers.head)):  # type: ignore[arg-type]
            self._placed = True
            self.sink.write(place)
            if self._paused or self.closed:
                return
        self.cohort.away.discard(self)
        self.cohort.members[self] = None
        self._cursor = None

    def _when(self, future: "Future[T]", use: Callable[[T], None]) -> None:
        """Use the result now if it is there. A log that cannot be read ends the reader, and the failure is reported."""
        if not future.done():
            future.add_done_callback(lambda done: self._when(done, use))
        elif error := future.exception():
            self._readers.report("a reader was cut off: the log could not be read", error)
            self.sink.abort()
        else:
            use(future.result())


def _for_one(messages: Sequence[Message], frames: Sequence[bytes]) -> list[tuple[int, str, int]]:
    """Those that are for one subscriber: seq, topic, and how many bytes of the page come behind it."""
    found = [(message.seq, message.topic, number) for number, message in enumerate(messages) if message.delivery is ONE]
    if not found:
        return []
    ends = [*accumulate(map(len, frames))]
    return [(seq, topic, ends[-1] - ends[number]) for seq, topic, number in found]


@lru_cache(maxsize=64)  # readers come in crowds
def _place(form: Encoder, epoch: str, head: int) -> bytes:
    """What tells a reader its place; empty where there is no word for it."""
    return form.join([form.position_event(f"{epoch}-{head}")])
