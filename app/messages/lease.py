"""A lease: one message handed to one consumer for a limited time, and the actions that settle it."""

import re
from enum import StrEnum
from typing import Final

import msgspec

from ..errors import OptionInvalid
from .control_characters import CODES
from .message import Id, Message

MAX_LEASES: Final = 100  # that one consumer holds at a time, or gets in one pull
MAX_LEASE_SECONDS: Final = 3_600.0  # seconds
MAX_NACK_DELAY: Final = 86_400.0  # seconds that a nack may ask for

MAX_REASON: Final = 200  # characters: a line for people, not a place for data
NACKED: Final = "nack"  # the reason of a failure if the consumer gives none
LEASE_EXPIRED: Final = "the lease expired"
CONNECTION_LOST: Final = "the worker's connection was lost"

_OWN_REASONS: Final = frozenset({"", NACKED, LEASE_EXPIRED, CONNECTION_LOST})
_LINE_ENDS: Final = frozenset("\t\n\u2028\u2029")
_ID = re.compile(r"([a-z0-9]{1,16})-(0|[1-9][0-9]{0,17})(?:-([1-9][0-9]{0,8}))?")


class Lease(msgspec.Struct, frozen=True, gc=False):
    """`attempt` counts the deliveries of the message in its group, from 1. `expires` is in Unix seconds by the present
    wall clock; the log decides by its own clock when the lease is over."""

    message: Message
    attempt: int
    expires: float

    @property
    def id(self) -> str:
        """`k3f9a2-42-1`: the message's id and the attempt. A later lease of the same message has another id."""
        return f"{self.message.id}-{self.attempt}"


class LeaseId(msgspec.Struct, frozen=True, gc=False):
    """A lease as a client names it. `attempt` None: the current lease of the message."""

    message: Id
    attempt: int | None = None

    def __str__(self) -> str:
        return str(self.message) if self.attempt is None else f"{self.message}-{self.attempt}"


def lease_id(lease: Lease) -> LeaseId:
    """The id that names exactly this lease."""
    return LeaseId(Id(lease.message.epoch, lease.message.seq), lease.attempt)


def parse_lease_id(text: str) -> LeaseId:
    """Parse a message id or a lease id. Raises OptionInvalid for any other text."""
    if match := _ID.fullmatch(text):
        return LeaseId(Id(match[1], int(match[2])), int(match[3]) if match[3] else None)
    raise OptionInvalid(
        f"{text[:60]!a} is not the id of a message or a lease: expected one such as k3f9a2-42 or k3f9a2-42-1"
    )


def parse_reason(text: str) -> str:
    """Why work has failed. Returns the text unchanged. Raises OptionInvalid."""
    if not 1 <= len(text) <= MAX_REASON:
        raise OptionInvalid(f"a reason has 1 to {MAX_REASON} characters; this one has {len(text)}")
    if any(ord(char) in CODES or char in _LINE_ENDS for char in text):
        raise OptionInvalid(f"reason {text[:60]!a} has control characters or more than one line")
    return text


def reason_cost(reason: str) -> int:
    """The most bytes of memory that a reason takes: four for each character, if it is a consumer's own."""
    return 0 if reason in _OWN_REASONS else 80 + 4 * len(reason)


class Action(StrEnum):
    ACK = "ack"  # the work is done
    NACK = "nack"  # the work failed: the message is delivered again after a delay
    EXTEND = "extend"  # the work takes longer
    RETURN = "return"  # the consumer disconnected
    EXCUSE = "excuse"  # the server closes the consumer's connection: not a failed attempt
    RELEASE = "release"  # an operator: the message is ready at once, whoever has it or whatever it waits for
    SKIP = "skip"  # an operator: the group never hands the message out again


OPERATORS: Final = frozenset({Action.RELEASE, Action.SKIP})  # what operators do to messages in any state


class Outcome(StrEnum):
    DONE = "done"  # the action took effect; also for an ack of a message that was acked before
    EXPIRED = "expired"  # the lease is over: nothing was changed
    UNKNOWN = "unknown"  # the group never handed the message out, or the message is no longer retained
