"""Encoders: how messages look on the wire. A message is encoded once per encoder, and a cohort writes the same bytes to
all of its subscribers.

`join` makes one batch of the frames of a turn, and adds what surrounds a batch on the wire.
"""

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from ..messages.lease import Lease
from ..messages.message import Message
from ..messages.position import Gap

T = TypeVar("T")

KINDS: Final = (
    "stream",
    "line",
    "read",
)  # of subscriptions; a "read" is a request that waits for the next message, and is not counted as a subscriber


class Encoder(Protocol):
    """How messages look to one kind of subscriber. Subscribers with the same encoder object share its bytes."""

    def encode(self, message: Message, /) -> bytes: ...

    def join(self, frames: Sequence[bytes]) -> bytes: ...

    def gap(self, gap: Gap) -> bytes:
        """The frame that reports a loss; empty if the protocol has none."""
        ...

    def position_event(self, id: str) -> bytes:
        """The frame that gives a subscriber its position before it has a message; empty if the protocol has none."""
        ...

    keep_alive: bytes

    kind: str
    """One of KINDS."""

    is_subscriber: bool
    """True if its subscriptions count as subscribers, and receive messages of `delivery=one`."""


class LeaseEncoder(Protocol):
    """How leases look to one kind of consumer."""

    def encode(self, lease: Lease, /) -> bytes: ...

    def join(self, frames: Sequence[bytes]) -> bytes: ...

    def gap(self, gap: Gap) -> bytes:
        """The frame that reports what was lost before the group began; empty if the protocol has none."""
        ...

    keep_alive: bytes


class NotificationEncoder:
    """For requests that wait for the next message: a signal instead of the message's bytes."""

    keep_alive = b""
    kind = "read"
    is_subscriber = False

    def encode(self, message: Message) -> bytes:  # noqa: ARG002
        return b"."

    def join(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)

    def gap(self, gap: Gap) -> bytes:  # noqa: ARG002
        return b"."

    def position_event(self, id: str) -> bytes:  # noqa: ARG002
        return b""


NOTIFICATION = NotificationEncoder()
