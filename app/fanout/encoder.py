"""A message's wire forms. A form builds a message's frame once, whoever listens; a cohort writes the same bytes to all.

Frames of one turn leave as one batch: `wrap` joins them and adds what surrounds a batch on the wire."""

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from ..messages.lease import Lease
from ..messages.message import Message
from ..messages.position import Gap

T = TypeVar("T")

KINDS: Final = ("stream", "line", "read")  # of readers; the last waits until there is something, and is no subscriber


class Encoder(Protocol):
    """How messages look to one kind of reader. Readers that share a form (the same object) share its bytes."""

    def encode(self, message: Message, /) -> bytes: ...

    def join(self, frames: Sequence[bytes]) -> bytes: ...

    def gap(self, gap: Gap) -> bytes:
        """The frame that tells of a loss; empty where the protocol has no word for it."""
        ...

    def position_event(self, id: str) -> bytes:
        """The frame that gives a reader its place before it has a message; empty where there is no word for it."""
        ...

    keep_alive: bytes

    kind: str
    """What its readers are, one of KINDS."""

    is_subscriber: bool
    """Whether its readers are subscribers: they are counted, and handed what is for one of them."""


class LeaseEncoder(Protocol):
    """How leases look to one kind of worker."""

    def encode(self, lease: Lease, /) -> bytes: ...

    def join(self, frames: Sequence[bytes]) -> bytes: ...

    def gap(self, gap: Gap) -> bytes:
        """The frame that tells what was gone before the group began; empty where the protocol has no word for it."""
        ...

    keep_alive: bytes


class NotificationEncoder:
    """For who waits until there is something to read: no bytes of the message, only that there was one."""

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
