"""Dialect: it parses a line into a Command, and writes the replies. No I/O."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from ...errors import LeaseExpired, NotFound, PlainmqError, Refused
from ...fanout.encoder import Encoder, LeaseEncoder
from ...messages.lease import Outcome
from ...messages.message import Receipt
from ..answers import Answer
from .commands import Command, Settle


class NotUtf8(Refused):
    code = "not_utf8"


class NotParsed(Refused):
    code = "not_parsed"


class UnknownCommand(Refused):
    code = "unknown_command"


class BadArguments(Refused):
    code = "bad_arguments"


NOT_SETTLED: Final = {
    Outcome.EXPIRED: (LeaseExpired, "the lease of {id} is over: nothing was changed"),
    Outcome.UNKNOWN: (NotFound, "group {group!r} of {topic!r} has handed out no message {id} that is still retained"),
}


class Dialect(ABC):
    encoder: ClassVar[Encoder]
    """Of messages, for subscriptions that were made in this dialect."""

    lease_encoder: ClassVar[LeaseEncoder]
    """Of leases, for consumers. Only dialects that have the command `work` define it."""

    @abstractmethod
    def parse(self, line: bytes) -> Command:
        """Raises Refused with a reason in this dialect's words, and nothing else."""

    @abstractmethod
    def success(self, text: str) -> bytes:
        """The reply to a command that succeeded. `text` says what was done, for dialects that report it."""

    @abstractmethod
    def error(self, error: PlainmqError) -> bytes:
        """The reply to a command that failed."""

    def answer(self, answer: Answer) -> bytes:
        """The reply to a command of an operator that succeeded."""
        return self.success(answer.text())

    @property
    def for_operators(self) -> "Dialect":
        """The dialect of the replies to commands of an operator."""
        return self

    def of_reply(self, line: bytes) -> "Dialect":  # noqa: ARG002
        """The dialect of the error that answers this line."""
        return self

    def sent(self, receipt: Receipt, start: int, count: int) -> bytes:  # noqa: ARG002
        """The replies to so many sends. Their messages begin at this index (from 0) of the receipt's."""
        return self.success("") * count

    def settled(self, command: Settle, outcome: Outcome) -> bytes:
        """The reply to an ack, a nack or an extend."""
        if outcome is Outcome.DONE:
            return self.success(outcome)
        kind, sentence = NOT_SETTLED[outcome]
        return self.error(kind(sentence.format(id=command.id, topic=command.topic, group=command.group)))

    def bye(self, reason: str) -> bytes:  # noqa: ARG002
        """The last line before the server closes the connection; empty if the dialect has none."""
        return b""


def decoded(line: bytes) -> str:
    """Raises NotUtf8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise NotUtf8("Could not decode input as UTF-8") from None
