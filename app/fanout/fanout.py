"""Fan-out: deliver() adds each message to the batches of all cohorts that select its topic, and flushes the batches
together.
"""

import random
from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from math import inf
from time import monotonic
from typing import Final

from ..limits.admission import Admission
from ..limits.buffered_bytes import OutboundBudget
from ..limits.quotas import slots_for
from ..log.run import Run
from ..messages.attendance import MAX_ENTRIES, Subscriptions
from ..messages.filter_index import FilterIndex
from ..messages.message import ONE, Message
from ..messages.topic import TopicFilter
from ..telemetry.counters import Counters
from .cohort import Cohort, LimitedCohort, Member
from .encoder import KINDS, Encoder
from .sink import Sink
from .subscriber import Source, Subscriber
from .transit import Transit

LONG_PAUSE: Final = 2  # times as long as the writing took: a longer pause saves little and adds latency


class Fanout:
    """All cohorts of a broker. Their batches are written at most once per turn of the loop."""

    def __init__(
        self, source: Source, loop: AbstractEventLoop, stall_timeout: float, counters: Counters,
        outbound: OutboundBudget, *, admission: Admission, coalesce: float = 0.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """`coalesce`: the longest that a batch waits for more messages, in seconds. `clock`: monotonic, in seconds."""
        self.source = source
        self.loop = loop
        self.outbound = outbound
        self.transit = Transit(source, loop, stall_timeout, counters)
        self._admission = admission
        self._clock = clock
        self._coalesce = coalesce
        self.stall_timeout = stall_timeout
        self.counters = counters
        self.head = (
            0  # seq of the last message delivered: the position of live subscribers once the batches are written
        )
        self._index = FilterIndex[Cohort]()
        self._cohorts: dict[tuple[TopicFilter, Encoder], Cohort] = {}
        self._dirty: list[Cohort] = []  # those with a batch to write
        self._not_encoded: list[int] = []  # seqs of messages that an encoder failed on
        self._large: list[Cohort] = []  # those whose batch must be written before the next message
        self._paused_until = 0.0  # until then no batch is written, on this clock

    def subscribe(
        self, topic_filter: TopicFilter, encoder: Encoder, sink: Sink, max_age: float = inf, limit: int | None = None,
        *, client: str | None = None, who: str = "",
    ) -> Subscriber:  # fmt: skip
        """A subscriber that is counted from now on. Its start() begins to write. It ends after `limit` messages. `who`:
        its name for people. Raises Draining, SubscriberLimit."""
        self._admission.take_slots(client, slots_for(topic_filter.memory))
        cohort = self._cohorts.get((topic_filter, encoder)) if limit is None else None
        if cohort is None:
            cohort = self._cohort(topic_filter, encoder, limit)
        subscriber = Subscriber(self, cohort, sink, self.loop.time() + max_age, client=client, who=who)
        cohort.catching_up.add(subscriber)
        return subscriber

    def _cohort(self, topic_filter: TopicFilter, encoder: Encoder, limit: int | None) -> Cohort:
        if limit is not None:
            cohort: Cohort = LimitedCohort(topic_filter, encoder, self.counters, limit)
        else:
            cohort = self._cohorts[topic_filter, encoder] = Cohort(topic_filter, encoder, self.counters)
        self._index.add(cohort)
        return cohort

    def discard(self, subscriber: Subscriber) -> None:
        if subscriber.closed:
            return
        cohort = subscriber.cohort
        cohort.live.pop(subscriber, None)
        cohort.catching_up.discard(subscriber)
        self._admission.release_slots(subscriber.client, cohort.slots)
        if not len(cohort):
            self._index.discard(cohort)
            if self._cohorts.get((cohort.topic_filter, cohort.encoder)) is cohort:
                del self._cohorts[cohort.topic_filter, cohort.encoder]

    def deliver(self, runs: Sequence[Run]) -> dict[int, int]:
        """Deliver messages in log order. Returns the number of receivers by seq; messages without receivers are left
        out. The bytes are written in this turn, or after the pause."""
        subscribers: dict[int, int] = {}
        for run in runs:
            try:
                if count := self._deliver(run):
                    for seq in range(run.first, run.seq + 1):
                        subscribers[seq] = count
            except Exception as error:  # a fault of the server: the publisher still gets its answer
                self.report("messages were not delivered to all", error)
            self.head = run.seq
        while self._not_encoded:
            subscribers.pop(self._not_encoded.pop(), None)
        return subscribers

    def _deliver(self, run: Run) -> int:
        """The number of receivers of each message; one in _not_encoded has none."""
        if self._large:
            self._flush_large()
        cohorts = self._index.matching(run.envelope.topic)
        if not cohorts:
            return 0
        if run.envelope.delivery is ONE:
            return self._deliver_to_one(next(run.messages), cohorts)
        frames: dict[Encoder, list[bytes]] = {}
        self.head = run.seq
        count = 0
        for cohort in cohorts:
            encoder = cohort.encoder
            if encoder.is_subscriber:
                count += len(cohort) if run.envelope.retain else len(cohort.live)
            if cohort.live:
                if encoder not in frames:
                    frames[encoder] = self._frames(encoder, run)
                if cohort.add(frames[encoder]):
                    self._flush_soon(cohort)
                if cohort.over_limit:
                    self._large.append(cohort)
        return count

    def _flush_large(self) -> None:
        """Called before the head moves: a flush may pause subscribers, and they keep the head as their cursor."""
        large, self._large = self._large, []
        for cohort in large:
            cohort.flush()

    def _frames(self, encoder: Encoder, run: Run) -> list[bytes]:
        """One frame per message. A message that the encoder fails on (a fault of the server) is noted as such."""
        try:
            return [*map(encoder.encode, run.messages)]
        except Exception:
            frames: list[bytes] = []
            for message in run.messages:
                try:
                    frames.append(encoder.encode(message))
                except Exception as error:
                    self.report("a message was not delivered", error)
                    self._not_encoded.append(message.seq)
            return frames

    def subscribers(self, topic: str) -> int:
        return sum(len(cohort) for cohort in self._index.find(topic) if cohort.encoder.is_subscriber)

    def subscriptions(self) -> Iterator[Subscriptions]:
        """How many subscribers have asked for the same topics; of more than are told to other servers, the first."""
        counts: Counter[TopicFilter] = Counter()
        for cohort in self._index:
            if cohort.encoder.is_subscriber:
                counts[cohort.topic_filter] += len(cohort)
            if len(counts) > MAX_ENTRIES:
                break
        return (Subscriptions(topic_filter.names, count) for topic_filter, count in counts.items())

    @property
    def cohorts(self) -> Iterable[Cohort]:
        """All of them; cohorts may be added and removed meanwhile."""
        return self._index

    def count_by_kind(self) -> dict[str, int]:
        """The number of subscribers of each kind."""
        kinds = dict.fromkeys(KINDS, 0)
        for cohort in self._index:
            kinds[cohort.encoder.kind] += len(cohort)
        return kinds

    def keep_alive(self) -> None:
        """Write each encoder's keep-alive comment, and end the streams that have reached their age."""
        now = self.loop.time()
        for cohort in self._index:
            if comment := cohort.encoder.keep_alive:
                cohort.write(comment)
            for subscriber in [
                subscriber for subscriber in (*cohort.live, *cohort.catching_up) if subscriber.expires <= now
            ]:
                subscriber.end("age")

    def end_all(self, reason: str) -> list[Callable[[], None]]:
        """For every subscriber, a function that ends it after what it was already given."""
        return [
            partial(subscriber.end, reason)
            for cohort in self._index
            for subscriber in (*cohort.live, *cohort.catching_up)
        ]

    def report(self, message: str, error: BaseException) -> None:
        self.loop.call_exception_handler({"message": message, "exception": error})

    def _deliver_to_one(self, message: Message, cohorts: Iterable[Cohort]) -> int:
        """To one random live subscriber. Returns 0 if there is none: subscribers that are catching up read it
        once it is unclaimed. Batches are flushed first, so that messages stay in order."""
        cohorts = [cohort for cohort in cohorts if cohort.encoder.is_subscriber]
        for cohort in cohorts:
            cohort.flush()
        self.head = message.seq
        subscriber = _random_live(cohorts)
        if subscriber is None:
            for behind in (behind for cohort in cohorts for behind in cohort.catching_up):
                behind.read_again = True
            return 0
        cohort = subscriber.cohort
        data = cohort.encoder.join([cohort.encoder.encode(message)])
        self.counters.deliver(1, len(data))
        subscriber.write(data)
        if message.retained:
            self.transit.add(subscriber.sink, [(message.seq, 0)])
        cohort.delivered(1)
        return 1

    def offer_unclaimed(self, topic: str) -> None:
        """The topic has an unclaimed message of `delivery=one` again: a random live subscriber reads it, or else the
        first one that reaches the head."""
        cohorts = [cohort for cohort in self._index.find(topic) if cohort.encoder.is_subscriber]
        member = _random_live(cohorts)
        for subscriber in (
            [member] if member else [subscriber for cohort in cohorts for subscriber in cohort.catching_up]
        ):
            subscriber.read_unclaimed()

    def _flush_soon(self, cohort: Cohort) -> None:
        if not self._dirty:
            pause = self._paused_until - self._clock()
            if pause > 0:
                self.loop.call_later(pause, self._flush)
            else:
                self.loop.call_soon(self._flush)
        self._dirty.append(cohort)

    def _flush(self) -> None:
        """Write all batches, and set the pause."""
        begun = self._clock()
        dirty, self._dirty = self._dirty, []
        times = LONG_PAUSE if any(cohort.coalescable for cohort in dirty) else 1
        for cohort in dirty:
            try:
                cohort.flush()
            except Exception as error:  # the other cohorts must still be flushed
                self.report("a batch was not written to all of its subscribers", error)
        ended = self._clock()
        self._paused_until = ended + min((ended - begun) * times, self._coalesce)


def _random_live(cohorts: Sequence[Cohort]) -> Member | None:
    """A random live subscriber of these cohorts."""
    sizes = [len(cohort.live) for cohort in cohorts]
    if not any(sizes):
        return None
    (cohort,) = random.choices(cohorts, sizes)
    return next(islice(cohort.live, random.randrange(len(cohort.live)), None))
