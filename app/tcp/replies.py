"""Messages of one client that came together, for one topic: a publisher in the batcher, and due until it is told."""

from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import Refused
from ..messages.message import Draft, Receipt
from .dialects.base import Dialect


class Sender(Protocol):
    """The client."""

    def say(self, answer: bytes) -> None: ...

    def failure(self, dialect: Dialect, error: BaseException, lines: int) -> bytes:
        """What so many lines are told that were not done."""

    def told(self) -> None:
        """Something that is due is done."""

    def abort(self) -> None: ...


class PublishReplies:
    __slots__ = ("_answer", "_dialect", "_sender", "drafts", "lines", "messages")

    def __init__(self, sender: Sender, dialect: Dialect, drafts: Sequence[Draft]) -> None:
        """A draft is a line, and has one message."""
        self._sender = sender
        self._dialect = dialect
        self._answer: bytes | None = None
        self.drafts = drafts
        self.messages = self.lines = len(drafts)

    # As a publisher

    def accepted(self, receipt: Receipt, place: int) -> None:
        self._tell(self._dialect.sent(receipt, place, self.lines))

    def refused(self, error: BaseException) -> None:
        self._tell(self._sender.failure(self._dialect, error, self.lines))

    def partly_refused(self, outcomes: Sequence[Receipt | Refused]) -> None:
        self._tell(b"".join(map(self._line, outcomes)))

    def _line(self, outcome: Receipt | Refused) -> bytes:
        if isinstance(outcome, Receipt):
            return self._dialect.sent(outcome, 0, 1)
        return self._sender.failure(self._dialect, outcome, 1)

    def _tell(self, answer: bytes) -> None:
        self._answer, self.drafts = answer, ()  # the answer may have to wait for long
        self._sender.told()

    def abort(self) -> None:
        self._sender.abort()

    # As what is due

    def done(self) -> bool:
        return self._answer is not None

    def say(self) -> None:
        self._sender.say(self._answer or b"")

    def forget(self) -> None:
        """They are published all the same."""


class Due(Protocol):
    @property
    def lines(self) -> int:
        """How many it answers."""

    def done(self) -> bool:
        """Whether it can be said."""

    def say(self) -> None: ...

    def forget(self) -> None:
        """Nobody is left to be told."""


class Answer:
    """`act` says it, once the future is done; None: at once."""

    __slots__ = ("_act", "_future", "lines")

    def __init__(self, act: Callable[[], None], future: "Future[Any] | None", lines: int) -> None:
        self._act = act
        self._future = future
        self.lines = lines

    def done(self) -> bool:
        return self._future is None or self._future.done()

    def say(self) -> None:
        self._act()

    def forget(self) -> None:
        if self._future is not None:
            self._future.add_done_callback(_look_away)


def _look_away(future: "Future[Any]") -> None:
    """It does not matter how it failed, and the loop shall not tell of it."""
    if not future.cancelled():
        future.exception()
