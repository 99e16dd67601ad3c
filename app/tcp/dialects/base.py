"""What the line port's dialects have in common: a line in, a Command out; and how the answer is said. No I/O."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from ...errors import LeaseExpired, NotFound, PlainmqError, Refused
from ...fanout.encoder import Encoder, LeaseEncoder
from ...messages.lease import Outcome
from ...messages.message import Receipt
from .commands import Command, Settle


class NotUtf8(Refused):
    code = "not_utf8"


class NotParsed(Refused):
    code = "not_parsed"


class UnknownCommand(Refused):
    code = "unknown_command"


class BadArguments(Refused):
    code = "bad_arguments"


_NOT_SETTLED: Final = {
    Outcome.EXPIRED: (LeaseExpired, "the lease of {id} is over: nothing was changed"),
    Outcome.UNKNOWN: (NotFound, "group {group!r} of {topic!r} has handed out no message {id} that is still retained"),
}


class Dialect(ABC):
    form: ClassVar[Encoder]
    """How messages look to who subscribes in this dialect."""

    lease_form: ClassVar[LeaseEncoder]
    """How they look to who works in it, where it has a word for that."""

    @abstractmethod
    def parse(self, line: bytes) -> Command:
        """What the line asks for. Raises Refused with a reason in this dialect's words, and nothing else."""

    @abstractmethod
    def success(self, text: str) -> bytes:
        """The answer to a command that was done; `text` is for dialects that say what was done."""

    @abstractmethod
    def error(self, error: PlainmqError) -> bytes:
        """The answer to a command that was not done."""

    def sent(self, receipt: Receipt, place: int, count: int) -> bytes:  # noqa: ARG002
        """The answers to so many sends: theirs are the messages from that place on (from 0) among the receipt's."""
        return self.success("") * count

    def settled(self, command: Settle, outcome: Outcome) -> bytes:
        """The answer to an ack, a nack or an extend."""
        if outcome is Outcome.DONE:
            return self.success(outcome)
        kind, sentence = _NOT_SETTLED[outcome]
        return self.error(kind(sentence.format(id=command.id, topic=command.topic, group=command.group)))

    def bye(self, reason: str) -> bytes:  # noqa: ARG002
        """The last line before we close; empty where the dialect has no word for it."""
        return b""


def decoded(line: bytes) -> str:
    """Raises NotUtf8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise NotUtf8("Could not decode input as UTF-8") from None
