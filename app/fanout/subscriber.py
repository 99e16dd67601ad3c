"""A subscriber: a cursor into the log, and the sink that its bytes go to.

A subscriber whose socket is full leaves the live ones with a cursor. It reads on from the log when the socket drains,
and is live again once it has reached the head:

            start()                        read to the head
    (new) ───────────▶ CATCHING UP, with a cursor ──────────▶ LIVE, at the head
                             ▲                                  │
                             └──────────────────────────────────┘
                                    pause(): the socket is full

Its client is answered once the first page has been read. If that page reaches the head, the subscriber is live then.
There is no queue per subscriber, and nothing here awaits.
"""

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, Protocol, TypeVar

from ..errors import Behind
from ..limits.buffered_bytes import OutboundBudget
from ..limits.stall import StallWatch
from ..log.reading import Page
from ..messages.message import ONE, Message
from ..messages.position import LATEST, Cursor, Start
from ..messages.topic import TopicFilter
from ..telemetry.counters import Counters
from .cohort import SINK_FAILED, Cohort
from .encoder import Encoder
from .presence import arrive
from .sink import BURST, Sink
from .transit import Claims, Transit

T = TypeVar("T")


class Source(Claims, Protocol):
    """The log as subscribers see it. The memory engine returns futures that are already done."""

    epoch: str

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:
        """True if an unclaimed message of `delivery=one` may be stored: then even a subscriber that starts at the head
        reads the log first."""
        ...

    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]: ...

    def read(self, topic_filter: TopicFilter, cursor: Cursor, *, limit: int, nbytes: int, take: bool) -> Future[Page]:
        """One page of the log, of at most `limit` messages and about `nbytes` bytes of bodies. All of them are
        delivered before the future's callbacks run; if the page reaches the head of the log, nothing else is. With
        `take`, the page also claims unclaimed messages of `delivery=one`."""
        ...


class FanoutContext(Protocol):
    """What all subscribers of a broker share."""

    source: Source
    loop: AbstractEventLoop
    counters: Counters
    outbound: OutboundBudget
    transit: Transit
    stall_timeout: float  # seconds
    head: int
    """seq of the last message delivered: the position of live subscribers once the batches are written."""

    def discard(self, subscriber: "Subscriber") -> None:
        """Remove it. Idempotent."""

    def report(self, message: str, error: BaseException) -> None: ...


class Subscriber:
    """One subscription: a cursor into the log, and the sink that its bytes go to. Fanout.subscribe() makes it."""

    __slots__ = (
        "_context",
        "_cursor",
        "_first_page",
        "_position_sent",
        "_reading",
        "_stall",
        "_timeout",
        "client",
        "cohort",
        "expires",
        "paused",
        "presence",
        "read_again",
        "sink",
    )  # fmt: skip

    def __init__(
        self, context: FanoutContext, cohort: Cohort, sink: Sink, expires: float, *,
        client: str | None = None, who: str = "",
    ) -> None:  # fmt: skip
        self._context = context
        self.client = client
        self.presence = arrive(who)
        self.cohort = cohort
        self.sink = sink
        self.expires = expires  # on the loop's clock
        self._cursor: Cursor | None = None  # None until the start is located, and while live
        self._first_page: Future[Page | None] | None = None  # the first page, until begin() writes it
        self.paused = False  # the socket is full
        self._reading = False  # a page has been asked for
        self.read_again = False  # more may have become readable since it was asked for
        self._position_sent = False  # the client's last event id equals this position
        self._stall: StallWatch | None = None  # while it is paused
        self._timeout: TimerHandle | None = None

    @property
    def position(self) -> int | None:
        """The seq up to which it has read the log; None before it has begun, and while it is live."""
        return None if self._cursor is None else self._cursor.seq

    @property
    def closed(self) -> bool:
        return self not in self.cohort.live and self not in self.cohort.catching_up

    def start(self, start: Start) -> "Future[Any] | None":
        """Write the messages that `start` asks for, then live ones, without a hole or a duplicate between them. The
        future is done when the first of them are about to be written; None: they are written."""
        first = self.prepare(start)
        if first is None or first.done():
            self.begin()
            return None
        first.add_done_callback(lambda _: self.begin())
        return first

    def prepare(self, start: Start) -> "Future[Any] | None":
        """Read the first page of what `start` asks for. Call begin() once the future is done; at once if it is None."""
        context, topic_filter = self._context, self.cohort.topic_filter
        if start is not LATEST:
            self._first_page = context.loop.create_future()
            self._when_read(context.source.locate(topic_filter, start), self._read_from)
        elif self.paused or context.source.has_unclaimed(topic_filter):
            self._first_page = context.loop.create_future()
            self._read_from(Cursor(context.head, 0))
        return self._first_page  # usually None: there is nothing to read

    def begin(self) -> None:
        """Write the first page; without one, become live."""
        first, self._first_page = self._first_page, None
        if first is None:
            if not self.closed:
                self._join()
        elif page := first.result():
            self._write_page(page)

    def end_in(self, seconds: float, reason: str) -> None:
        """End it after so many seconds."""
        self._timeout = self._context.loop.call_later(seconds, self.end, reason)

    def pause(self) -> None:
        """The socket is full: stay at this position until it drains. Idempotent."""
        if self.paused or self.closed:
            return
        self.paused = True
        self._fall_behind()
        context = self._context
        self._stall = StallWatch(self.sink, context.loop, context.stall_timeout, context.counters)
        self._stall.start()

    def resume(self) -> None:
        """The socket has drained: read on. Idempotent."""
        if self.paused and not self.closed and self.cohort.page_limit:
            self.paused = False
            self._unwatch()
            self._context.outbound.drained(self)
            self._read_on()

    def read_unclaimed(self) -> None:
        """There is an unclaimed message of `delivery=one` behind the head: read it as soon as the socket allows."""
        self._fall_behind()
        self.read_again = True
        self._read_on()

    def _fall_behind(self) -> None:
        if self in self.cohort.live:
            self.cohort.flush()  # the head is its position only when the batch is written
            self._cursor = Cursor(self._context.head, 0)
            self.cohort.live.pop(self, None)
            self.cohort.catching_up.add(self)

    def buffered(self, nbytes: int) -> None:
        """Count bytes that wait in the server, if the socket is full."""
        if self.paused and not self.closed:
            self._context.outbound.add(self, nbytes)

    def write(self, data: bytes) -> None:
        """Write to this subscriber alone. A sink that fails, a fault of the server, is cut off."""
        try:
            self.sink.write(data)
        except Exception as error:
            self.fail(SINK_FAILED, error)

    def evict(self) -> None:
        """Cut it off because its client does not read."""
        if not self.closed:
            self._context.counters.evicted += 1
            self.sink.abort()

    def end(self, reason: str) -> None:
        """End the subscriber after everything that it was given. Idempotent."""
        if not self.closed:
            self.cohort.flush()
            self.sink.end(reason)

    def stop_at_limit(self) -> None:
        """The subscriber has received its limit: give it no more. It ends in the next turn, since its cohort may be
        delivering now."""
        self.paused = True
        self.cohort.live.pop(self, None)
        self.cohort.catching_up.add(self)
        self._context.loop.call_soon(self.end, "limit")

    def detach(self) -> None:
        """The client has disconnected: forget this subscription. Idempotent."""
        self._unwatch()
        self._context.outbound.drained(self)
        if self._timeout is not None:
            self._timeout.cancel()
        self._context.discard(self)
        first, self._first_page = self._first_page, None
        if first is not None and not first.done():
            first.set_result(None)  # nobody waits for ever
        elif first is not None and (page := first.result()):
            self._write_page(page)  # gives back what the page has claimed

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def _read_from(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._read_on()

    def _read_on(self) -> None:
        if self._cursor is not None and not (self._reading or self.paused or self.closed):
            self._reading, self.read_again = True, False
            cohort, context = self.cohort, self._context
            page = context.source.read(
                cohort.topic_filter, self._cursor, limit=cohort.page_limit, nbytes=BURST,
                take=cohort.encoder.is_subscriber,
            )  # fmt: skip
            self._when_read(page, self._write_page if self._first_page is None else self._on_first_page)

    def _on_first_page(self, page: Page) -> None:
        if self._first_page is None:  # detached since
            self._write_page(page)
        else:
            self._first_page.set_result(page)

    def _write_page(self, page: Page) -> None:
        self._reading = False
        if self.closed:
            self._context.transit.give_back([message.seq for message in page.messages if message.delivery is ONE])
            return
        encoder = self.cohort.encoder
        frames = [encoder.encode(message) for message in page.messages]
        single = _single_deliveries(page.messages, frames)
        if page.gap is not None and (frame := encoder.gap(page.gap)):
            frames.insert(0, frame)
            self._position_sent = False
            if encoder.is_subscriber:
                self._context.counters.report_gap(page.gap.missed)
        if page.messages:
            self._position_sent = self._cursor is not None and page.messages[-1].seq > self._cursor.seq
        self._cursor = page.cursor
        if frames:
            data = encoder.join(frames)
            if encoder.is_subscriber:
                self._context.counters.deliver(len(page.messages), len(data))
            self.write(data)
            if single:
                self._context.transit.add(self.sink, single)
            self.buffered(len(data))
        self.cohort.delivered(len(page.messages))
        if self.paused or self.closed:
            return
        if page.cursor.seq >= self._context.head and not (page.behind or self.read_again):
            self._join()
        else:
            self._context.loop.call_soon(self._read_on)  # one page per turn, so that other clients are served

    def _join(self) -> None:
        """Become live. The cohort's batch is flushed first: this subscriber has read its messages from the log already.

        If the client's last event id is not this position, the position is sent, so that a client that is cut off now
        comes back to it."""
        self.cohort.flush()
        context, encoder = self._context, self.cohort.encoder
        if not self._position_sent and (frame := _position_frame(encoder, context.source.epoch, context.head)):  # type: ignore[arg-type]
            self._position_sent = True
            self.write(frame)
            if self.paused or self.closed:
                return
        self.cohort.catching_up.discard(self)
        self.cohort.live[self] = None
        self._cursor = None

    def _when_read(self, future: "Future[T]", use: Callable[[T], None]) -> None:
        """Call `use` with the result: now if there is one already. A failed read ends the subscription; its client
        comes back, perhaps to another server."""
        if not future.done():
            future.add_done_callback(lambda done: self._when_read(done, use))
        elif isinstance(error := future.exception(), Behind):
            self.end("failover")
        elif error:
            self.fail("a subscriber was cut off: the log could not be read", error)
        else:
            use(future.result())

    def fail(self, message: str, error: BaseException) -> None:
        """Report a fault of the server's own, and cut this subscriber off."""
        self._context.report(message, error)
        self.sink.abort()


def _single_deliveries(messages: Sequence[Message], frames: Sequence[bytes]) -> list[tuple[int, int]]:
    """The page's messages of `delivery=one`: seq, and the bytes of the page that follow each."""
    found = [(message.seq, number) for number, message in enumerate(messages) if message.delivery is ONE]
    if not found:
        return []
    ends = [*accumulate(map(len, frames))]
    return [(seq, ends[-1] - ends[number]) for seq, number in found]


@lru_cache(maxsize=64)  # subscribers often join in large numbers at one head
def _position_frame(encoder: Encoder, epoch: str, head: int) -> bytes:
    """The frame that gives a subscriber its position; empty if the protocol has none."""
    return encoder.join([encoder.position_event(f"{epoch}-{head}")])
