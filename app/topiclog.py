"""One topic's part of the log: what it keeps, what it may keep, and what it has lost."""

from typing import Final

import msgspec

from .history import Ring
from .holds import Holds
from .message import Draft, Message

MESSAGE_COST: Final = 448  # bytes of memory a kept message takes beyond its body; a test measures it
TOPIC_COST: Final = 1_024  # likewise a topic
DEATH_COST: Final = 512  # likewise the story of a dead message


def cost(message: Message | Draft) -> int:
    """Bytes of memory the message takes while it is kept."""
    return MESSAGE_COST + len(message.data) + len(message.line or b"") + (DEATH_COST if message.death else 0)


class Retention(msgspec.Struct, frozen=True):
    """How much of a topic is kept: messages, bytes of their bodies, age in seconds."""

    max_messages: int = 1_000
    max_bytes: int = 8 << 20
    max_age: float = 86_400.0


class Limits(msgspec.Struct, frozen=True):
    """What the whole log may hold. `total_bytes` counts bodies and their overhead, `topic_idle` is in seconds, `groups`
    counts those of one topic."""

    retention: Retention = Retention()
    total_bytes: int = 256 << 20
    topics: int = 10_000
    groups: int = 100
    topic_idle: float = 3_600.0


class Loss(msgspec.Struct):
    """What retention took from a topic: the seq and time of the newest such message, and how many there were.
    `first` is the topic's first message ever: who stopped before it has missed all of them."""

    seq: int = 0
    time: float = 0.0
    count: int = 0
    first: int = 0


class TopicState(msgspec.Struct, frozen=True):
    """What a topic retains: messages, bytes of their bodies, ids of the oldest and the newest; its retention; and the
    names of its groups."""

    topic: str
    messages: int
    bytes: int
    first: str | None
    last: str | None
    retention: Retention
    groups: list[str]


class TopicLog:
    """One topic's part of the log."""

    __slots__ = (
        "bytes", "holds", "last_used", "loss", "name", "next_index", "pinned", "retention", "ring", "waiting",
    )  # fmt: skip

    def __init__(self, name: str, retention: Retention, loss: Loss) -> None:
        self.name = name
        self.retention = retention
        self.loss = loss
        self.ring = Ring()
        self.waiting: dict[int, Message] = {}  # delivery=one, and nobody was there yet
        self.bytes = 0
        self.next_index = 0
        self.last_used = 0.0
        self.pinned = False  # has settings of its own, so it stays when it is empty
        self.holds: Holds | None = None  # what its groups have not done; None when it has no groups

    @property
    def oldest_free(self) -> Message | None:
        """The oldest message that retention may take."""
        if self.holds is not None:
            return self.holds.oldest_free(self.ring)
        return self.ring.oldest if self.ring.live else None

    def state(self) -> TopicState:
        newest = next(self.ring.newest(), None)
        return TopicState(
            self.name,
            len(self.ring),
            self.bytes,
            self.ring.oldest.id if newest else None,
            newest.id if newest else None,
            self.retention,
            sorted(self.holds.groups) if self.holds else [],
        )
