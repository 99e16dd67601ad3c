"""What several publishers send in one turn of the event loop: given to the log together, which costs it half the work.

Each is answered by itself. If the log refuses them together, one of them may be to blame, so each is tried alone.
"""

from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from .errors import PlainmqError, Refused
from .message import Draft, Receipt, Scheduled

TOGETHER: Final = 100  # drafts that the log is given at once: more would gain nothing


class Publisher(Protocol):
    draft: Draft
    """Without a key or a delay."""

    def accepted(self, receipt: Receipt, place: int) -> None:
        """The draft is the message at that place (from 0) among those of the receipt."""

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
        waiting, topic = self._waiting, publisher.draft.topic
        if not waiting:
            self._loop.call_soon(self._end_turn)
        if topic in waiting:
            waiting[topic].append(publisher)
        else:
            waiting[topic] = [publisher]

    def _end_turn(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for publishers in waiting.values():
            for start in range(0, len(publishers), TOGETHER):
                self._publish(publishers[start : start + TOGETHER])

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
            for place, publisher in enumerate(publishers):
                publisher.accepted(receipt, place)
        elif isinstance(error, Refused) and len(publishers) > 1:
            for publisher in publishers:
                self._publish([publisher])
        else:
            for publisher in publishers:
                publisher.refused(error)
