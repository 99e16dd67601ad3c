"""A lease: one message, given to one worker for a time; how it is settled, and what comes of that."""

import re
from enum import StrEnum
from typing import Final

import msgspec

from ..errors import OptionInvalid
from .message import Id, Message

MAX_LEASES: Final = 100  # of one worker at a time, or in one pull
MAX_LEASE_SECONDS: Final = 3_600.0  # seconds
MAX_NACK_DELAY: Final = 86_400.0  # seconds that a nack may ask for

_ID = re.compile(r"([a-z0-9]{1,16})-(0|[1-9][0-9]{0,17})(?:-([1-9][0-9]{0,8}))?")


class Lease(msgspec.Struct, frozen=True, gc=False):
    """`attempt` counts from 1 how often the group has handed the message out; `expires` is in Unix
    seconds, as the wall clock is now; the lease itself goes by the log's own clock."""

    message: Message
    attempt: int
    expires: float

    @property
    def id(self) -> str:
        """`k3f9a2-42-1`: the message's id and the attempt. It names this lease and no later one of the message."""
        return f"{self.message.id}-{self.attempt}"


class LeaseId(msgspec.Struct, frozen=True, gc=False):
    """Which lease is meant: that of the attempt, or (None) whichever the message has now."""

    message: Id
    attempt: int | None = None

    def __str__(self) -> str:
        return str(self.message) if self.attempt is None else f"{self.message}-{self.attempt}"


def lease_id(lease: Lease) -> LeaseId:
    """Exactly that lease."""
    return LeaseId(Id(lease.message.epoch, lease.message.seq), lease.attempt)


def parse_lease_id(text: str) -> LeaseId:
    """A message's id or a lease's. Raises OptionInvalid, whatever the bytes."""
    if match := _ID.fullmatch(text):
        return LeaseId(Id(match[1], int(match[2])), int(match[3]) if match[3] else None)
    raise OptionInvalid(
        f"{text[:60]!a} is not the id of a message or a lease: expected one such as k3f9a2-42 or k3f9a2-42-1"
    )


class Action(StrEnum):
    ACK = "ack"  # the work is done
    NACK = "nack"  # it is not: somebody else shall try, after a time
    EXTEND = "extend"  # it takes longer
    RETURN = "return"  # the worker is gone
    RELEASE = "release"  # the server ends the worker's connection: no failure of the job


class Outcome(StrEnum):
    DONE = "done"  # as asked; for an ack also when it was acked before
    EXPIRED = "expired"  # the lease is over: nothing was changed
    UNKNOWN = "unknown"  # the group never had such a lease, or its message is no longer retained
