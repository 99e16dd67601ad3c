"""The batcher: publishes of one topic that arrive in one turn of the loop are appended together, at half the cost.

The first publish after an idle gap is not delayed to the end of the turn. Each publisher gets a result of its own.
"""

from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from time import monotonic
from typing import Final, Protocol

from ..errors import PlainmqError, Refused
from ..messages.message import Draft, PublishResult, Receipt

TURN: Final = 0.01  # seconds of publishing, about, then other tasks run
MAX_BATCH: Final = 100  # messages that are appended together: larger batches are not faster
IDLE_GAP: Final = (
    0.00005  # seconds without a publish: the next one is probably alone. A busy server's turns follow sooner
)

_DRAFTS = attrgetter("drafts")


class PendingPublish(Protocol):
    """A publish that waits for its result. While it receives the result it may add another publish, but must not call
    flush_topic(): earlier publishes may still be waiting."""

    drafts: Sequence[Draft]
    """For one topic, without idempotency keys and delays. Each draft is accepted or refused as a whole."""

    messages: int
    """The number of messages in the drafts."""

    def accepted(self, receipt: Receipt, start: int) -> None:
        """The drafts were accepted: their messages begin at this index (from 0) of the receipt's."""

    def refused(self, error: BaseException) -> None:
        """A PlainmqError says why nothing was accepted. After any other error the outcome is unknown."""

    def partly_refused(self, outcomes: Sequence[Receipt | Refused]) -> None:
        """The outcome of each draft."""

    def abort(self) -> None:
        """A fault of the server keeps it from receiving its result: close its connection."""


class PublishBatcher:
    def __init__(self, loop: AbstractEventLoop, publish: Callable[[Sequence[Draft]], "Future[PublishResult]"]) -> None:
        self._loop = loop
        self._publish_all = publish
        self._waiting: dict[str, list[PendingPublish]] = {}  # by topic, in the order of arrival
        self._last_publish = 0.0  # on the monotonic clock

    def add(self, publisher: PendingPublish) -> None:
        waiting, topic = self._waiting, publisher.drafts[0].envelope.topic
        if not waiting:
            if monotonic() - self._last_publish > IDLE_GAP:
                self._publish((publisher,))
                return
            self._loop.call_soon(self._end_turn)
        if topic in waiting:
            waiting[topic].append(publisher)
        else:
            waiting[topic] = [publisher]

    def flush_topic(self, topic: str) -> None:
        """Append what waits for the topic now, before the turn is over: the caller's next step must come after it."""
        for part in _parts(self._waiting.pop(topic, ())):
            self._publish(part)

    def _end_turn(self) -> None:
        waiting, end = self._waiting, monotonic() + TURN
        while waiting:
            self.flush_topic(next(iter(waiting)))
            if waiting and monotonic() > end:  # other tasks run; publishes that arrive meanwhile wait behind these
                self._loop.call_soon(self._end_turn)
                return

    def _publish(self, publishers: Sequence[PendingPublish]) -> None:
        try:
            future = self._publish_all([*chain.from_iterable(map(_DRAFTS, publishers))])
        except PlainmqError as error:
            self._report(publishers, error)
        else:
            if future.done():
                self._on_published(publishers, future)
            else:
                future.add_done_callback(partial(self._on_published, publishers))
        self._last_publish = monotonic()

    def _on_published(self, publishers: Sequence[PendingPublish], future: "Future[PublishResult]") -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        self._report(publishers, error or future.result())

    def _report(self, publishers: Sequence[PendingPublish], result: PublishResult | BaseException) -> None:
        start, outcomes = 0, iter(result if isinstance(result, list) else ())
        for publisher in publishers:
            count = publisher.messages
            try:
                if isinstance(result, Receipt):
                    publisher.accepted(result, start)
                elif isinstance(result, list):
                    publisher.partly_refused([*islice(outcomes, len(publisher.drafts))])
                else:
                    publisher.refused(result)
            except Exception as fault:  # a fault of the server: the other publishers still get their results
                self._loop.call_exception_handler({"message": "a publisher was not answered", "exception": fault})
                publisher.abort()
            start += count


def _parts(publishers: Iterable[PendingPublish]) -> Iterator[list[PendingPublish]]:
    """Divide them, in order. A part has at most MAX_BATCH messages, or one publisher."""
    part: list[PendingPublish] = []
    count = 0
    for publisher in publishers:
        if part and count + publisher.messages > MAX_BATCH:
            yield part
            part, count = [], 0
        part.append(publisher)
        count += publisher.messages
    if part:
        yield part
