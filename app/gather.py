"""What several publishers send in one turn of the event loop: given to the log together, which costs it half the work.

Who comes after a lull does not wait for the turn's end. Each is answered by itself. If the log refuses them together,
one of them may be to blame, so each is tried alone.
"""

from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol

from .errors import PlainmqError, Refused
from .message import Draft, Receipt, Scheduled

TURN: Final = 0.01  # seconds of publishing, about, then others get their turn
TOGETHER: Final = 100  # messages that the log is given at once: more would gain nothing
LULL: Final = 0.00005  # seconds without a publish: who comes then is most likely alone. A busy turn follows sooner


class Publisher(Protocol):
    """While it is told, it may add another, but not hasten anything: some that came before may not be published yet."""

    draft: Draft
    """Without a key or a delay; all or none of its messages are accepted."""

    def accepted(self, receipt: Receipt, place: int) -> None:
        """They are the messages from that place on (from 0) among those of the receipt."""

    def refused(self, error: BaseException) -> None:
        """Refused by a PlainmqError; after any other, nobody knows."""


class Gather:
    def __init__(
        self, loop: AbstractEventLoop, publish: Callable[[Sequence[Draft]], Future[Receipt | Scheduled]]
    ) -> None:
        self._loop = loop
        self._publish_all = publish
        self._waiting: dict[str, list[Publisher]] = {}  # by topic, in the order they came
        self._latest = 0.0  # when something was published

    def add(self, publisher: Publisher) -> None:
        waiting, topic = self._waiting, publisher.draft.envelope.topic
        if not waiting:
            if monotonic() - self._latest > LULL:
                self.publish([publisher])
                return
            self._loop.call_soon(self._end_turn)
        if topic in waiting:
            waiting[topic].append(publisher)
        else:
            waiting[topic] = [publisher]

    def hasten(self, topic: str) -> None:
        """Publish what has come for the topic before the turn is over: somebody has something else to do after it."""
        for together in _parts(self._waiting.pop(topic, ())):
            self.publish(together)

    def _end_turn(self) -> None:
        waiting, end = self._waiting, monotonic() + TURN
        while waiting:
            self.hasten(next(iter(waiting)))
            if waiting and monotonic() > end:  # others get their turn, and those who come meanwhile wait behind these
                self._loop.call_soon(self._end_turn)
                return

    def publish(self, publishers: Sequence[Publisher]) -> None:
        """Together, and now. They are for one topic."""
        try:
            future = self._publish_all([publisher.draft for publisher in publishers])
        except PlainmqError as error:
            self._answer(publishers, error)
        else:
            if future.done():
                self._tell(publishers, future)
            else:
                future.add_done_callback(partial(self._tell, publishers))
        self._latest = monotonic()

    def _tell(self, publishers: Sequence[Publisher], future: "Future[Any]") -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        if isinstance(error, Refused) and len(publishers) > 1:
            for publisher in publishers:
                self.publish([publisher])
        else:
            self._answer(publishers, error or future.result())

    def _answer(self, publishers: Sequence[Publisher], outcome: Receipt | BaseException) -> None:
        place = 0
        for publisher in publishers:
            count = len(publisher.draft.bodies)
            try:
                if isinstance(outcome, BaseException):
                    publisher.refused(outcome)
                else:
                    publisher.accepted(outcome, place)
            except Exception as fault:  # of ours; the others shall have their answers all the same
                self._loop.call_exception_handler({"message": "a publisher was not answered", "exception": fault})
            place += count


def _parts(publishers: Iterable[Publisher]) -> Iterator[list[Publisher]]:
    """In their order; a part has at most TOGETHER messages, or one publisher."""
    part: list[Publisher] = []
    count = 0
    for publisher in publishers:
        if part and count + len(publisher.draft.bodies) > TOGETHER:
            yield part
            part, count = [], 0
        part.append(publisher)
        count += len(publisher.draft.bodies)
    if part:
        yield part
