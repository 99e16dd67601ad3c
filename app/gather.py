"""What several publishers send in one turn of the event loop: given to the log together, which costs it half the work.

Each is answered by itself. If the log refuses them together, one of them may be to blame, so each is tried alone.
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


class Publisher(Protocol):
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

    def add(self, publisher: Publisher) -> None:
        waiting, topic = self._waiting, publisher.draft.envelope.topic
        if not waiting:
            self._loop.call_soon(self._end_turn)
        if topic in waiting:
            waiting[topic].append(publisher)
        else:
            waiting[topic] = [publisher]

    def _end_turn(self) -> None:
        waiting, end = self._waiting, monotonic() + TURN
        while waiting:
            for together in _parts(waiting.pop(next(iter(waiting)))):
                self._publish(together)
            if waiting and monotonic() > end:  # others get their turn, and those who come meanwhile wait behind these
                self._loop.call_soon(self._end_turn)
                return

    def _publish(self, publishers: list[Publisher]) -> None:
        try:
            future = self._publish_all([publisher.draft for publisher in publishers])
        except PlainmqError as error:
            for publisher in publishers:
                publisher.refused(error)
            return
        if future.done():
            self._tell(publishers, future)
        else:
            future.add_done_callback(partial(self._tell, publishers))

    def _tell(self, publishers: list[Publisher], future: "Future[Any]") -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            receipt = future.result()
            place = 0
            for publisher in publishers:
                count = len(publisher.draft.bodies)
                publisher.accepted(receipt, place)
                place += count
        elif isinstance(error, Refused) and len(publishers) > 1:
            for publisher in publishers:
                self._publish([publisher])
        else:
            for publisher in publishers:
                publisher.refused(error)


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
    yield part
