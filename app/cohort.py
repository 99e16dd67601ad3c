"""Who listens. Readers that asked for the same thing in the same form are a cohort: they get the same bytes.

A message's way: deliver() puts its frame into the batch of every cohort that selects it; once per turn of the event
loop each batch is joined once and written to every member. Then as long is left for more to come as the writing took:
who is idle writes at once, and who is busy writes less often. A reader whose socket is full leaves its cohort with a
cursor, reads on from the log when the socket drains, and is a member again once it is at the head:

            start()                        read to the head
    (new) ───────────▶ AWAY, with cursor ────────────────▶ MEMBER, at the head
                             ▲                                  │
                             └──────────────────────────────────┘
                                    pause(): the socket is full

There is no queue per reader, and nothing here awaits.
"""

import random
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import islice
from math import inf
from time import monotonic
from typing import Final, Protocol, TypeVar

from .core.reading import Page
from .frames import KINDS, Form
from .limits.counts import Counts
from .limits.outflow import Outflow
from .limits.stall import StallWatch
from .message import Delivery, Message
from .position import LATEST, Cursor, Start
from .topic import PatternIndex, Selector

PAGE: Final = 1_000  # messages in one write to a reader that catches up
SELECTIONS: Final = 65_536  # cohorts that are remembered, of all topics: to find them takes long when patterns are many
BATCH: Final = 256 << 10  # bytes that are gathered in one turn, about: a reader that is full by then gets no more

T = TypeVar("T")


class Sink(Protocol):
    """The door's end of a reader: where its bytes go. The door calls the reader's pause(), resume() and close()."""

    def write(self, data: bytes) -> None: ...

    def pending(self) -> int:
        """Bytes that the socket has not taken yet."""
        ...

    def end(self, reason: str) -> None:
        """Close in good order, after what was written; a stream says `reason` in its farewell."""
        ...

    def abort(self) -> None:
        """Cut the connection off, unsent bytes and all."""
        ...


class Source(Protocol):
    """The log as readers see it. The futures of a log in memory are done when they are returned."""

    @property
    def epoch(self) -> str: ...

    def waits(self, selector: Selector) -> bool:
        """Whether something may be kept there for a first subscriber: who starts with what comes has to read it."""
        ...

    def locate(self, selector: Selector, start: Start) -> Future[Cursor]: ...

    def read_on(self, selector: Selector, cursor: Cursor, upto: int, limit: int, take: bool) -> Future[Page]:
        """One write's worth of the log, up to that place and at most `limit` messages; with `take`, also what was kept
        for one subscriber."""
        ...

    def put_back(self, message: Message) -> None:
        """It was handed out for one subscriber, who was gone by then: somebody else shall have it."""


class Cohort:
    """The readers of one selection in one form."""

    __slots__ = ("_batch", "_counts", "_size", "away", "form", "members", "selector")

    def __init__(self, selector: Selector, form: Form, counts: Counts) -> None:
        self.selector = selector
        self.form = form
        self._counts = counts
        self.members: dict[Reader, None] = {}  # at the head, in the order they came
        self.away: set[Reader] = set()  # behind it, each at its cursor
        self._batch: list[bytes] = []
        self._size = 0  # bytes in there

    def __len__(self) -> int:
        return len(self.members) + len(self.away)

    def add(self, frame: bytes) -> bool:
        """Put the frame into this turn's batch; True when it is the first there."""
        self._batch.append(frame)
        self._size += len(frame)
        return len(self._batch) == 1

    @property
    def large(self) -> bool:
        """The batch is large enough to be written before another message comes, though the turn is not over."""
        return self._size > BATCH

    def flush(self) -> None:
        """Write the batch: joined once, the same bytes to every member."""
        if batch := self._batch:
            self._batch, self._size = [], 0
            data, members = self.form.wrap(batch), len(self.members)
            if self.form.takes:
                self._counts.deliver(len(batch) * members, len(data) * members)
            full = self.write(data)
            for reader in full:
                reader.owe(len(data) // members)

    def write(self, data: bytes) -> "list[Reader]":
        """Answers who has left: a write may pause its reader."""
        members = tuple(self.members)
        for reader in members:
            reader.sink.write(data)
        return [] if len(self.members) == len(members) else [reader for reader in members if reader._paused]

    @property
    def page(self) -> int:
        """How many messages a reader may be given at once."""
        return PAGE

    def given(self, count: int) -> None:
        """So many messages went to a reader other than through a batch."""


class LimitedCohort(Cohort):
    """One reader that wants so many messages and then an end; nobody can share its batches."""

    __slots__ = ("_left",)

    def __init__(self, selector: Selector, form: Form, counts: Counts, limit: int) -> None:
        super().__init__(selector, form, counts)
        self._left = limit

    @property
    def page(self) -> int:
        return min(PAGE, self._left)

    def add(self, frame: bytes) -> bool:
        first = super().add(frame)
        self.given(1)
        return first

    def given(self, count: int) -> None:
        self._left -= count
        if self._left <= 0:
            self.flush()
            for reader in (*self.members, *self.away):
                reader.finish()


class Reader:
    """One subscription: a cursor into the log, and where its bytes go. Cohorts.subscribe() makes it."""

    __slots__ = (
        "_cohorts", "_cursor", "_paused", "_placed", "_reading", "_stall", "_timeout", "client", "cohort", "expires",
        "sink",
    )  # fmt: skip

    def __init__(
        self, cohorts: "Cohorts", cohort: Cohort, sink: Sink, expires: float, client: str | None = None
    ) -> None:
        self._cohorts = cohorts
        self.client = client
        self.cohort = cohort
        self.sink = sink
        self.expires = expires  # on the loop's clock
        self._cursor: Cursor | None = None  # None before the start is located, and while a member
        self._paused = False
        self._reading = False  # a page is on its way
        self._placed = False  # the last id that was written is where the reader is
        self._stall: StallWatch | None = None  # while it is paused
        self._timeout: TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self not in self.cohort.members and self not in self.cohort.away

    def start(self, start: Start) -> None:
        """Write what the start asks for, then live messages, without a hole or a duplicate between them."""
        source, selector = self._cohorts.source, self.cohort.selector
        if start is LATEST and self in self.cohort.away and not (self._paused or source.waits(selector)):
            self._join()  # as most do, and there is nothing to read
        else:
            self._when(source.locate(selector, start), self._read_from)

    def end_in(self, seconds: float, reason: str) -> None:
        """End it when that time is over."""
        self._timeout = self._cohorts.loop.call_later(seconds, self.end, reason)

    def pause(self) -> None:
        """The socket is full: stay at this place until it drains. Idempotent."""
        if self._paused or self.closed:
            return
        self._paused = True
        if self in self.cohort.members:
            self.cohort.flush()  # at most a turn's batch, so that the place is the head whatever is pending
            self._cursor = Cursor(self._cohorts.head, 0)
            self.cohort.members.pop(self, None)
            self.cohort.away.add(self)
        cohorts = self._cohorts
        self._stall = StallWatch(self.sink, cohorts.loop, cohorts.stall_timeout, cohorts.counts)
        self._stall.start()

    def resume(self) -> None:
        """The socket has drained: read on. Idempotent."""
        if self._paused and not self.closed and self.cohort.page:
            self._paused = False
            self._unwatch()
            self._cohorts.outflow.settle(self)
            self._read_on()

    def owe(self, octets: int) -> None:
        """So many bytes were written to its socket, which is full if it is paused."""
        if self._paused and not self.closed:
            self._cohorts.outflow.add(self, octets)

    def evict(self) -> None:
        """Cut it off: it has not taken what it was given."""
        if not self.closed:
            self._cohorts.counts.evicted += 1
            self.sink.abort()

    def end(self, reason: str) -> None:
        """End it in good order, after everything it was given. Idempotent."""
        if not self.closed:
            self.cohort.flush()
            self.sink.end(reason)

    def finish(self) -> None:
        """It has all it wanted: take no more, and end soon (not now: its cohort may be in a delivery)."""
        self._paused = True
        self.cohort.members.pop(self, None)
        self.cohort.away.add(self)
        self._cohorts.loop.call_soon(self.end, "limit")

    def close(self) -> None:
        """The reader is gone. Idempotent."""
        self._unwatch()
        self._cohorts.outflow.settle(self)
        if self._timeout is not None:
            self._timeout.cancel()
        self._cohorts.discard(self)

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def _read_from(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._read_on()

    def _read_on(self) -> None:
        if self._cursor is not None and not (self._reading or self._paused or self.closed):
            self._reading = True
            cohort, cohorts = self.cohort, self._cohorts
            page = cohorts.source.read_on(
                cohort.selector, self._cursor, cohorts.head, limit=cohort.page, take=cohort.form.takes
            )
            self._when(page, self._write_page)

    def _write_page(self, page: Page) -> None:
        self._reading = False
        if self.closed:
            for message in page.messages:
                if message.delivery is Delivery.ONE:
                    self._cohorts.source.put_back(message)
            return
        form = self.cohort.form
        frames = [form.encode(message) for message in page.messages]
        if page.gap is not None and (frame := form.gap(page.gap)):
            frames.insert(0, frame)
            self._placed = False
            self._cohorts.counts.gaps += form.takes
        if page.messages:
            self._placed = self._cursor is not None and page.messages[-1].seq > self._cursor.seq
        self._cursor = page.cursor
        if frames:
            data = form.wrap(frames)
            if form.takes:
                self._cohorts.counts.deliver(len(page.messages), len(data))
            self.sink.write(data)
            self.owe(len(data))
        self.cohort.given(len(page.messages))
        if self._paused or self.closed:
            return
        if page.cursor.seq >= self._cohorts.head and not page.behind:
            self._join()
        else:
            self._cohorts.loop.call_soon(self._read_on)  # one page a turn, so that nobody else waits

    def _join(self) -> None:
        """Become a member. What is in the cohort's batch by now was read from the log already, so it goes first.

        Who has no id yet, or one that is not its place, is told the place: whoever is cut off then comes back to it."""
        self.cohort.flush()
        cohorts, form = self._cohorts, self.cohort.form
        if not self._placed and (place := _place(form, cohorts.source.epoch, cohorts.head)):  # type: ignore[arg-type]
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
            self._cohorts.report("a reader was cut off: the log could not be read", error)
            self.sink.abort()
        else:
            use(future.result())


@lru_cache(maxsize=64)  # readers come in crowds
def _place(form: Form, epoch: str, head: int) -> bytes:
    """What tells a reader its place; empty where there is no word for it."""
    return form.wrap([form.place(f"{epoch}-{head}")])


class Cohorts:
    """All cohorts of a broker, found by topic."""

    def __init__(
        self, source: Source, loop: AbstractEventLoop, stall_timeout: float, counts: Counts, outflow: Outflow, *,
        coalesce: float = 0.0, left: Callable[[str | None], None] = lambda _client: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """`coalesce`: seconds at most that a batch waits for more. `left` hears of each reader that goes, whose it was.
        `clock`: seconds, for how long writing takes."""
        self.source = source
        self.loop = loop
        self.outflow = outflow
        self._left = left
        self._clock = clock
        self._coalesce = coalesce
        self.stall_timeout = stall_timeout
        self.counts = counts
        self.head = 0  # seq of the last message delivered: where members are, once the batches are written
        self.readers = 0
        self._all: dict[Cohort, None] = {}
        self._shared: dict[tuple[Selector, Form], Cohort] = {}
        self._by_topic: dict[str, dict[Cohort, None]] = {}
        self._by_pattern: PatternIndex[Cohort] = PatternIndex()
        self._selected: dict[str, tuple[Cohort, ...]] = {}  # by topic, since a cohort last came or went
        self._selections = 0  # in there, and a topic counts as one more
        self._dirty: list[Cohort] = []  # have a batch to write
        self._rested = 0.0  # when batches may be written again

    def subscribe(
        self, selector: Selector, form: Form, sink: Sink, max_age: float = inf, limit: int | None = None,
        *, client: str | None = None,
    ) -> Reader:  # fmt: skip
        """A reader that counts from now on; start() lets it write; it ends after `limit` messages."""
        cohort = self._shared.get((selector, form)) if limit is None else None
        if cohort is None:
            cohort = self._cohort(selector, form, limit)
        reader = Reader(self, cohort, sink, self.loop.time() + max_age, client)
        cohort.away.add(reader)
        self.readers += 1
        return reader

    def _cohort(self, selector: Selector, form: Form, limit: int | None) -> Cohort:
        if limit is not None:
            return self._register(LimitedCohort(selector, form, self.counts, limit))
        cohort = self._shared[selector, form] = self._register(Cohort(selector, form, self.counts))
        return cohort

    def discard(self, reader: Reader) -> None:
        if reader.closed:
            return
        cohort = reader.cohort
        cohort.members.pop(reader, None)
        cohort.away.discard(reader)
        self.readers -= 1
        self._left(reader.client)
        if not len(cohort):
            self._unregister(cohort)

    def deliver(self, message: Message) -> int:
        """Hand a message to whoever listens, in log order; returns to how many. They get its bytes this turn."""
        cohorts = self._selecting(message.topic)
        if not cohorts:
            self.head = message.seq
            return 0
        if message.delivery is Delivery.ONE:
            return self._deliver_to_one(message, cohorts)
        if large := [cohort for cohort in cohorts if cohort.large]:
            for cohort in large:  # before the head moves: a flush may pause readers of others, at the head
                cohort.flush()
            cohorts = self._selecting(message.topic)  # or cut some off
        self.head = message.seq
        frames: dict[Form, bytes] = {}
        readers = 0
        for cohort in cohorts:
            form = cohort.form
            if form.takes:
                readers += len(cohort) if message.retained else len(cohort.members)
            if cohort.members:
                if form not in frames:
                    frames[form] = form.encode(message)
                if cohort.add(frames[form]):
                    self._flush_soon(cohort)
        return readers

    def subscribers(self, topic: str) -> int:
        selecting = self._selected.get(topic) or self._matching(topic)  # who asks of every topic shall displace none
        return sum(len(cohort) for cohort in selecting if cohort.form.takes)

    def kinds(self) -> dict[str, int]:
        """How many readers there are of each kind."""
        kinds = dict.fromkeys(KINDS, 0)
        for cohort in self._all:
            kinds[cohort.form.kind] += len(cohort)
        return kinds

    def keep_alive(self) -> None:
        """Write each form's keep-alive comment, and end the streams that are old enough."""
        now = self.loop.time()
        for cohort in tuple(self._all):
            if comment := cohort.form.keep_alive:
                cohort.write(comment)
            for reader in [reader for reader in (*cohort.members, *cohort.away) if reader.expires <= now]:
                reader.end("age")

    def ends(self, reason: str) -> list[Callable[[], None]]:
        """For every reader, what ends it in good order, after what it was already given."""
        return [partial(reader.end, reason) for cohort in self._all for reader in (*cohort.members, *cohort.away)]

    def report(self, message: str, error: BaseException) -> None:
        self.loop.call_exception_handler({"message": message, "exception": error})

    def _deliver_to_one(self, message: Message, cohorts: Iterable[Cohort]) -> int:
        """To a random member. Batches go out first, so that it comes in order; a reader that is away cannot have it."""
        takers = [cohort for cohort in cohorts if cohort.form.takes]
        for cohort in takers:
            cohort.flush()
        self.head = message.seq
        sizes = [len(cohort.members) for cohort in takers]
        if not any(sizes):
            return 0
        (cohort,) = random.choices(takers, sizes)
        reader = next(islice(cohort.members, random.randrange(len(cohort.members)), None))
        data = cohort.form.wrap([cohort.form.encode(message)])
        self.counts.deliver(1, len(data))
        reader.sink.write(data)
        cohort.given(1)
        return 1

    def _selecting(self, topic: str) -> tuple[Cohort, ...]:
        found = self._selected.get(topic)
        if found is None:
            found = self._matching(topic)
            self._selections += 1 + len(found)
            if self._selections > SELECTIONS:
                self._forget_selections()
            else:
                self._selected[topic] = found
        return found

    def _forget_selections(self) -> None:
        self._selected.clear()
        self._selections = 0

    def _matching(self, topic: str) -> tuple[Cohort, ...]:
        exact, matching = self._by_topic.get(topic, ()), self._by_pattern.matching(topic)
        return tuple(dict.fromkeys([*exact, *matching]))

    def _flush_soon(self, cohort: Cohort) -> None:
        if not self._dirty:
            rest = self._rested - self._clock()
            if rest > 0:
                self.loop.call_later(rest, self._flush)
            else:
                self.loop.call_soon(self._flush)
        self._dirty.append(cohort)

    def _flush(self) -> None:
        """Write what was delivered in this turn, or since the last writing."""
        begun = self._clock()
        dirty, self._dirty = self._dirty, []
        for cohort in dirty:
            try:
                cohort.flush()
            except Exception as error:  # the others have a batch too
                self.report("a batch was not written to all of its readers", error)
        ended = self._clock()
        self._rested = ended + min(ended - begun, self._coalesce)

    def _register(self, cohort: Cohort) -> Cohort:
        self._all[cohort] = None
        self._forget_selections()
        for topic in cohort.selector.topics:
            self._by_topic.setdefault(topic, {})[cohort] = None
        for pattern in cohort.selector.patterns:
            self._by_pattern.add(pattern, cohort)
        return cohort

    def _unregister(self, cohort: Cohort) -> None:
        del self._all[cohort]
        self._forget_selections()
        if self._shared.get((cohort.selector, cohort.form)) is cohort:
            del self._shared[cohort.selector, cohort.form]
        for topic in cohort.selector.topics:
            del self._by_topic[topic][cohort]
            if not self._by_topic[topic]:
                del self._by_topic[topic]
        for pattern in cohort.selector.patterns:
            self._by_pattern.discard(pattern, cohort)
