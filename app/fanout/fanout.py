"""A message's way to all who listen: deliver() puts its frame into the batches of the cohorts that select it, which are
written together.
"""

import random
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from math import inf
from time import monotonic
from typing import Final

from ..limits.buffered_bytes import OutboundBudget
from ..log.run import Run
from ..messages.message import ONE, Message
from ..messages.topic import TopicFilter
from ..telemetry.counters import Counters
from .cohort import Cohort, LimitedCohort, Source, Subscriber
from .encoder import KINDS, Encoder
from .index import SubscriptionIndex
from .sink import Sink
from .transit import Transit

LONG_PAUSE: Final = 2  # times as long as the writing took: more would spare little, and readers would wait


class Fanout:
    """All cohorts of a broker: what is delivered to them is written once a turn, or less often."""

    def __init__(
        self, source: Source, loop: AbstractEventLoop, stall_timeout: float, counters: Counters,
        outbound: OutboundBudget, *, coalesce: float = 0.0,
        left: Callable[[str | None, int], None] = lambda _client, _places: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """`coalesce`: seconds at most that a batch waits for more. `left` hears of each reader that goes, whose it was
        and how many places it took. `clock`: seconds, for how long writing takes."""
        self.source = source
        self.loop = loop
        self.outbound = outbound
        self.transit = Transit(source, loop, stall_timeout, counters, self.waits_again)
        self._left = left
        self._clock = clock
        self._coalesce = coalesce
        self.stall_timeout = stall_timeout
        self.counters = counters
        self.head = 0  # seq of the last message delivered: where members are, once the batches are written
        self.places = 0  # that readers take (app/limits/quotas.py)
        self._selections = SubscriptionIndex()
        self._shared: dict[tuple[TopicFilter, Encoder], Cohort] = {}
        self._dirty: list[Cohort] = []  # have a batch to write
        self._faulty: list[int] = []  # seqs of messages that a form could not say
        self._large: list[Cohort] = []  # have one that is to be written before another message comes
        self._rested = 0.0  # when batches may be written again

    def subscribe(
        self, topic_filter: TopicFilter, form: Encoder, sink: Sink, max_age: float = inf, limit: int | None = None,
        *, client: str | None = None,
    ) -> Subscriber:  # fmt: skip
        """A reader that counts from now on; start() lets it write; it ends after `limit` messages."""
        cohort = self._shared.get((topic_filter, form)) if limit is None else None
        if cohort is None:
            cohort = self._cohort(topic_filter, form, limit)
        reader = Subscriber(self, cohort, sink, self.loop.time() + max_age, client)
        cohort.away.add(reader)
        self.places += cohort.places
        return reader

    def _cohort(self, topic_filter: TopicFilter, form: Encoder, limit: int | None) -> Cohort:
        if limit is not None:
            cohort: Cohort = LimitedCohort(topic_filter, form, self.counters, limit)
        else:
            cohort = self._shared[topic_filter, form] = Cohort(topic_filter, form, self.counters)
        self._selections.add(cohort)
        return cohort

    def discard(self, reader: Subscriber) -> None:
        if reader.closed:
            return
        cohort = reader.cohort
        cohort.members.pop(reader, None)
        cohort.away.discard(reader)
        self.places -= cohort.places
        self._left(reader.client, cohort.places)
        if not len(cohort):
            self._selections.discard(cohort)
            if self._shared.get((cohort.topic_filter, cohort.form)) is cohort:
                del self._shared[cohort.topic_filter, cohort.form]

    def deliver(self, runs: Sequence[Run]) -> dict[int, int]:
        """Hand messages to whoever listens, in log order; returns to how many (by seq), where there is anybody. They
        get the bytes this turn, or when the writer has rested."""
        readers: dict[int, int] = {}
        for run in runs:
            try:
                if count := self._deliver(run):
                    for seq in range(run.first, run.seq + 1):
                        readers[seq] = count
            except Exception as error:  # a fault of ours; the publisher shall have the answer all the same
                self.report("messages were not delivered to all", error)
            self.head = run.seq
        while self._faulty:
            readers.pop(self._faulty.pop(), None)
        return readers

    def _deliver(self, run: Run) -> int:
        """To how many each message goes, but for the faulty."""
        if self._large:
            self._flush_large()
        fanout = self._selections.matching(run.envelope.topic)
        if run.envelope.delivery is ONE:
            return self._deliver_to_one(next(run.messages), fanout)
        frames: dict[Encoder, list[bytes]] = {}
        self.head = run.seq
        count = 0
        for cohort in fanout:
            form = cohort.form
            if form.is_subscriber:
                count += len(cohort) if run.envelope.retain else len(cohort.members)
            if cohort.members:
                if form not in frames:
                    frames[form] = self._frames(form, run)
                if cohort.add(frames[form]):
                    self._flush_soon(cohort)
                if cohort.over_limit:
                    self._large.append(cohort)
        return count

    def _flush_large(self) -> None:
        """Before the head moves: a flush may pause readers of others, at the head."""
        large, self._large = self._large, []
        for cohort in large:
            cohort.flush()

    def _frames(self, form: Encoder, run: Run) -> list[bytes]:
        """One for each message; those that cannot be put into the form, a fault of ours, join the faulty."""
        try:
            return [*map(form.encode, run.messages)]
        except Exception:
            frames: list[bytes] = []
            for message in run.messages:
                try:
                    frames.append(form.encode(message))
                except Exception as error:
                    self.report("a message was not delivered", error)
                    self._faulty.append(message.seq)
            return frames

    def subscribers(self, topic: str) -> int:
        return sum(len(cohort) for cohort in self._selections.find(topic) if cohort.form.is_subscriber)

    def count_by_kind(self) -> dict[str, int]:
        """How many readers there are of each kind."""
        kinds = dict.fromkeys(KINDS, 0)
        for cohort in self._selections:
            kinds[cohort.form.kind] += len(cohort)
        return kinds

    def keep_alive(self) -> None:
        """Write each form's keep-alive comment, and end the streams that are old enough."""
        now = self.loop.time()
        for cohort in self._selections:
            if comment := cohort.form.keep_alive:
                cohort.write(comment)
            for reader in [reader for reader in (*cohort.members, *cohort.away) if reader.expires <= now]:
                reader.end("age")

    def end_all(self, reason: str) -> list[Callable[[], None]]:
        """For every reader, what ends it in good order, after what it was already given."""
        return [
            partial(reader.end, reason) for cohort in self._selections for reader in (*cohort.members, *cohort.away)
        ]

    def report(self, message: str, error: BaseException) -> None:
        self.loop.call_exception_handler({"message": message, "exception": error})

    def _deliver_to_one(self, message: Message, fanout: Iterable[Cohort]) -> int:
        """To a random member, if there is one. Batches go out first, so that it comes in order; a reader that is away
        cannot have it."""
        takers = [cohort for cohort in fanout if cohort.form.is_subscriber]
        for cohort in takers:
            cohort.flush()
        self.head = message.seq
        reader = _anybody(takers)
        if reader is None:
            return 0
        cohort = reader.cohort
        data = cohort.form.join([cohort.form.encode(message)])
        self.counters.deliver(1, len(data))
        reader.sink.write(data)
        if message.retained:
            self.transit.add(reader.sink, [(message.seq, message.topic, 0)])
        cohort.delivered(1)
        return 1

    def waits_again(self, topic: str) -> None:
        """Something for one subscriber, in that topic: a random member reads it, or else whoever is the first to come
        to the head."""
        takers = [cohort for cohort in self._selections.find(topic) if cohort.form.is_subscriber]
        member = _anybody(takers)
        for reader in [member] if member else [reader for cohort in takers for reader in cohort.away]:
            reader.look_behind()

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
        times = LONG_PAUSE if any(cohort.coalescable for cohort in dirty) else 1
        for cohort in dirty:
            try:
                cohort.flush()
            except Exception as error:  # the others have a batch too
                self.report("a batch was not written to all of its readers", error)
        ended = self._clock()
        self._rested = ended + min((ended - begun) * times, self._coalesce)


def _anybody(fanout: Sequence[Cohort]) -> Subscriber | None:
    """A random member."""
    sizes = [len(cohort.members) for cohort in fanout]
    if not any(sizes):
        return None
    (cohort,) = random.choices(fanout, sizes)
    return next(islice(cohort.members, random.randrange(len(cohort.members)), None))
