"""Cohorts. A cohort is all subscribers that select the same topics in the same encoding: they receive the same bytes.

The fan-out adds each message to the batch of every cohort that selects its topic. Once per turn of the event loop, each
batch is joined once and written to every live subscriber. A pause follows that is as long as the writing took, or twice
as long when the batch held several small messages: an idle server writes at once, and a busy one writes less often.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from ..limits.quotas import slots_for
from ..messages.topic import TopicFilter
from ..telemetry.counters import Counters
from .encoder import Encoder
from .presence import Presence
from .sink import Sink

PAGE_MESSAGES: Final = 1_000  # messages in one write to a subscriber that catches up
MAX_BATCH_BYTES: Final = 256 << 10  # a larger batch is written before the turn ends, so that full sockets are noticed
SMALL_BATCH_BYTES: Final = 16 << 10  # writing this many bytes costs about twice as much as the smallest write

SINK_FAILED: Final = "a subscriber was cut off: its sink failed"


class Member(Protocol):
    """A subscriber, as its cohort sees it (app/fanout/subscriber.py)."""

    cohort: "Cohort"
    presence: Presence
    sink: Sink
    paused: bool
    read_again: bool  # there may be more to read than the page has that was asked for last
    expires: float  # on the loop's clock

    @property
    def position(self) -> int | None: ...

    def write(self, data: bytes) -> None: ...

    def read_unclaimed(self) -> None: ...

    def end(self, reason: str) -> None: ...

    def fail(self, message: str, error: BaseException) -> None: ...

    def buffered(self, nbytes: int) -> None: ...

    def stop_at_limit(self) -> None: ...


class Cohort:
    """The subscribers that share one topic filter and one encoder."""

    __slots__ = ("_batch", "_counters", "_size", "catching_up", "encoder", "live", "slots", "topic_filter")

    def __init__(self, topic_filter: TopicFilter, encoder: Encoder, counters: Counters) -> None:
        self.topic_filter = topic_filter
        self.slots = slots_for(topic_filter.memory)  # that each of its subscribers takes (app/limits/quotas.py)
        self.encoder = encoder
        self._counters = counters
        self.live: dict[Member, None] = {}  # at the head, in the order in which they joined
        self.catching_up: set[Member] = set()  # behind the head, each at its own cursor
        self._batch: list[bytes] = []
        self._size = 0  # bytes in the batch

    def __len__(self) -> int:
        return len(self.live) + len(self.catching_up)

    def add(self, frames: Sequence[bytes]) -> bool:
        """Append frames to the batch. True if the batch was empty before."""
        first = not self._batch
        self._batch += frames
        self._size += sum(map(len, frames))
        return first

    @property
    def coalescable(self) -> bool:
        """True if waiting for more messages saves work: the batch holds several small ones, so the cost of a write is
        per call rather than per byte."""
        return len(self._batch) > 1 and self._size < SMALL_BATCH_BYTES

    @property
    def over_limit(self) -> bool:
        """True if the batch must be written before another message is added."""
        return self._size > MAX_BATCH_BYTES

    def flush(self) -> None:
        """Join the batch once and write the same bytes to every live subscriber."""
        if batch := self._batch:
            self._batch, self._size = [], 0
            data, members = self.encoder.join(batch), len(self.live)
            if self.encoder.is_subscriber:
                self._counters.deliver(len(batch) * members, len(data) * members)
            full = self.write(data)
            for subscriber in full:
                subscriber.buffered(len(data) // members)  # its share: all members refer to the one bytes object

    def write(self, data: bytes) -> list[Member]:
        """Write to every live subscriber. Returns those that are no longer live: a write may pause its subscriber."""
        live = tuple(self.live)
        for subscriber in live:
            try:
                subscriber.sink.write(data)
            except Exception as error:  # the others must still get the bytes. Inline: the hot path of fan-out
                subscriber.fail(SINK_FAILED, error)
        return [] if len(self.live) == len(live) else [subscriber for subscriber in live if subscriber.paused]

    @property
    def page_limit(self) -> int:
        """The most messages that a subscriber may be given at once."""
        return PAGE_MESSAGES

    def delivered(self, count: int) -> None:
        """Count messages that a subscriber was given outside a batch."""


class LimitedCohort(Cohort):
    """One subscriber that ends after `limit` messages. It shares its batches with no other."""

    __slots__ = ("_left",)

    def __init__(self, topic_filter: TopicFilter, encoder: Encoder, counters: Counters, limit: int) -> None:
        super().__init__(topic_filter, encoder, counters)
        self._left = limit

    @property
    def page_limit(self) -> int:
        return min(PAGE_MESSAGES, self._left)

    def add(self, frames: Sequence[bytes]) -> bool:
        frames = frames[: self._left]
        first = super().add(frames)
        self.delivered(len(frames))
        return first

    def delivered(self, count: int) -> None:
        self._left -= count
        if self._left <= 0:
            self.flush()
            for subscriber in (*self.live, *self.catching_up):
                subscriber.stop_at_limit()
