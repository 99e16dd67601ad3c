"""Messages of one client that came together in one envelope: a publisher in the gather, and due until it is told."""

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

    def split(self, sends: "Sends", parts: "Sequence[Sends]") -> None:
        """The parts take its place, and are published one by one."""


class Sends:
    __slots__ = ("_answer", "_dialect", "_sender", "draft", "lines")

    def __init__(self, sender: Sender, dialect: Dialect, draft: Draft) -> None:
        self._sender = sender
        self._dialect = dialect
        self._answer: bytes | None = None
        self.draft = draft
        self.lines = len(draft.bodies)

    # As a publisher

    def accepted(self, receipt: Receipt, place: int) -> None:
        self._tell(self._dialect.sent(receipt, place, self.lines))

    def refused(self, error: BaseException) -> None:
        """If the log refuses them at once, each is tried by itself."""
        if self.lines > 1 and isinstance(error, Refused):
            drafts = [Draft(self.draft.envelope, (body,)) for body in self.draft.bodies]
            self._sender.split(self, [Sends(self._sender, self._dialect, draft) for draft in drafts])
        else:
            self._tell(self._sender.failure(self._dialect, error, self.lines))

    def _tell(self, answer: bytes) -> None:
        self._answer = answer
        self._sender.told()

    # As what is due

    def done(self) -> bool:
        return self._answer is not None

    def say(self) -> None:
        self._sender.say(self._answer or b"")

    def forget(self) -> None:
        """They are published all the same."""
