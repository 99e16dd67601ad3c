"""What several publishers send in one turn of the event loop: given to the log together, which costs it half the work.

Who comes after a lull does not wait for the turn's end. Each is answered by itself, and is refused by itself.
"""

from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from time import monotonic
from typing import Final, Protocol

from ..errors import PlainmqError, Refused
from ..messages.message import Draft, PublishResult, Receipt

TURN: Final = 0.01  # seconds of publishing, about, then others get their turn
MAX_BATCH: Final = 100  # messages that the log is given at once: more would gain nothing
IDLE_GAP: Final = 0.00005  # seconds without a publish: who comes then is most likely alone. A busy turn follows sooner


class PendingPublish(Protocol):
    """While it is told, it may add another, but not hasten anything: some that came before may not be published yet."""

    drafts: Sequence[Draft]
    """For one topic, without keys and delays; each is accepted or refused as a whole."""

    messages: int
    """In the drafts."""

    def accepted(self, receipt: Receipt, place: int) -> None:
        """They are the messages from that place on (from 0) among those of the receipt."""

    def refused(self, error: BaseException) -> None:
        """Refused by a PlainmqError; after any other, nobody knows."""

    def partly_refused(self, outcomes: Sequence[Receipt | Refused]) -> None:
        """What became of each draft."""

    def abort(self) -> None:
        """It cannot be told, by a fault of ours."""


class PublishBatcher:
    def __init__(self, loop: AbstractEventLoop, publish: Callable[[Sequence[Draft]], "Future[PublishResult]"]) -> None:
        self._loop = loop
        self._publish_all = publish
        self._waiting: dict[str, list[PendingPublish]] = {}  # by topic, in the order they came
        self._latest = 0.0  # when something was published

    def add(self, publisher: PendingPublish) -> None:
        waiting, topic = self._waiting, publisher.drafts[0].envelope.topic
        if not waiting:
            if monotonic() - self._latest > IDLE_GAP:
                self._publish((publisher,))
                return
            self._loop.call_soon(self._end_turn)
        if topic in waiting:
            waiting[topic].append(publisher)
        else:
            waiting[topic] = [publisher]

    def flush_topic(self, topic: str) -> None:
        """Publish what has come for the topic before the turn is over: somebody has something else to do after it."""
        for together in _parts(self._waiting.pop(topic, ())):
            self._publish(together)

    def _end_turn(self) -> None:
        waiting, end = self._waiting, monotonic() + TURN
        while waiting:
            self.flush_topic(next(iter(waiting)))
            if waiting and monotonic() > end:  # others get their turn, and those who come meanwhile wait behind these
                self._loop.call_soon(self._end_turn)
                return

    def _publish(self, publishers: Sequence[PendingPublish]) -> None:
        try:
            future = self._publish_all([draft for publisher in publishers for draft in publisher.drafts])
        except PlainmqError as error:
            self._tell(publishers, error)
        else:
            if future.done():
                self._learn(publishers, future)
            else:
                future.add_done_callback(partial(self._learn, publishers))
        self._latest = monotonic()

    def _learn(self, publishers: Sequence[PendingPublish], future: "Future[PublishResult]") -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        self._tell(publishers, error or future.result())

    def _tell(self, publishers: Sequence[PendingPublish], told: PublishResult | BaseException) -> None:
        place, outcomes = 0, iter(told if isinstance(told, list) else ())
        for publisher in publishers:
            count = publisher.messages
            try:
                if isinstance(told, Receipt):
                    publisher.accepted(told, place)
                elif isinstance(told, list):
                    publisher.partly_refused([*islice(outcomes, len(publisher.drafts))])
                else:
                    publisher.refused(told)
            except Exception as fault:  # of ours; the others shall have their answers all the same
                self._loop.call_exception_handler({"message": "a publisher was not answered", "exception": fault})
                publisher.abort()
            place += count


def _parts(publishers: Iterable[PendingPublish]) -> Iterator[list[PendingPublish]]:
    """In their order; a part has at most TOGETHER messages, or one publisher."""
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
