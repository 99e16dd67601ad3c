"""Messages of one client that came together, for one topic: a publisher in the gather, and due until it is told."""

from collections.abc import Sequence
from typing import Protocol

from ..errors import Refused
from ..message import Draft, Receipt
from .dialect import Dialect


class Sender(Protocol):
    """The client."""

    def say(self, answer: bytes) -> None: ...

    def failure(self, dialect: Dialect, error: BaseException, lines: int) -> bytes:
        """What so many lines are told that were not done."""

    def told(self) -> None:
        """Something that is due is done."""

    def abort(self) -> None: ...


class Sends:
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

    def parted(self, outcomes: Sequence[Receipt | Refused]) -> None:
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
