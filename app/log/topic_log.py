"""One topic's part of the log: what it keeps, what it may keep, and what it has lost."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from ..messages.message import BODY_PLACEHOLDER, ONE, Draft, Envelope, Message
from .groups.unacked import UnackedIndex
from .run import MESSAGE_COST, memory_cost, one_cost, resident_cost
from .store import TopicMessages
from .trims import TrimMark

TOPIC_COST: Final = 1_024  # bytes of memory that a topic takes, at most; a test measures it
SHORT_LINE: Final = 64  # bytes of a line that are within TOPIC_COST when no message has it any more


class Weight(msgspec.Struct, frozen=True, gc=False):
    """Of messages: how many, bytes of their bodies, and of the memory that they take while they are kept."""

    messages: int
    nbytes: int
    memory: int
    resident: int
    """Of that memory, what is taken even if the messages are on a disk."""


def weigh(drafts: Sequence[Draft]) -> Weight:
    messages = nbytes = memory = known = 0
    for draft in drafts:
        envelope, several = draft.envelope, len(draft.bodies)
        messages += several
        nbytes += sum(map(len, draft.bodies))
        each = memory_cost(envelope.line, envelope.death, envelope.ttl)
        memory += several * each
        if each != MESSAGE_COST or envelope.delivery is ONE:  # most are neither
            memory += several * one_cost(envelope)
            known += several * resident_cost(envelope, envelope.ttl is not None)
    return Weight(messages, nbytes, nbytes + memory, known)


class Retention(msgspec.Struct, frozen=True):
    """How much of a topic is kept: messages, bytes of their bodies, age in seconds."""

    max_messages: int = 1_000
    max_bytes: int = 8 << 20
    max_age: float = 86_400.0


class Limits(msgspec.Struct, frozen=True):
    """What the whole log may hold. `total_bytes` counts bodies and their overhead, `topic_idle` is in seconds, `groups`
    counts those of one topic; `memory_bytes` counts what is in memory even if messages are on a disk: what is delayed,
    leases, groups, and what is known of messages that have a ttl or are for one subscriber."""

    retention: Retention = Retention()
    total_bytes: int = 256 << 20
    topics: int = 10_000
    groups: int = 100
    topic_idle: float = 3_600.0
    memory_bytes: int = 256 << 20


class TopicState(msgspec.Struct, frozen=True):
    """What a topic retains: messages, bytes of their bodies, ids of the oldest and the newest; how many are to come
    later; its retention; and the names of its groups."""

    topic: str
    messages: int
    bytes: int
    delayed: int
    first: str | None
    last: str | None
    retention: Retention
    groups: list[str]


class TopicRecord(msgspec.Struct, frozen=True):
    """What must be known of a topic besides its messages. `held` and `held_bytes`: what its groups have not acked."""

    retention: Retention
    loss: TrimMark
    messages: int
    bytes: int
    next_index: int
    last_used: float
    pinned: bool
    held: int = 0
    held_bytes: int = 0
    come: int = 0


class TopicLog:
    """One topic's part of the log."""

    __slots__ = (
        "bytes",
        "delayed",
        "envelope",
        "for_one",
        "last_used",
        "loss",
        "name",
        "next_index",
        "pinned",
        "retention",
        "ring",
        "unacked",
    )  # fmt: skip

    def __init__(self, name: str, retention: Retention, loss: TrimMark, ring: TopicMessages) -> None:
        self.name = name
        self.retention = retention
        self.loss = loss
        self.ring = ring
        self.for_one: dict[int, bool] = {}  # by seq, rising: whether it waits, or is on its way to somebody
        self.envelope: Envelope | None = None  # the last one, so that equal ones are kept once
        self.bytes = 0
        self.delayed = 0  # messages that are to come later
        self.next_index = 0
        self.last_used = 0.0
        self.pinned = False  # has settings of its own, so it stays when it is empty
        self.unacked: UnackedIndex | None = (
            None  # what stays, whatever its age; None when it has no groups and nothing dead
        )

    def share(self, draft: Draft) -> Draft:
        """The same in an equal envelope: the topic's last one, or one without a name of its own, which may be long."""
        envelope = draft.envelope
        if envelope is self.envelope:
            return draft
        if envelope == self.envelope:
            return Draft(self.envelope, draft.bodies)
        if envelope.topic is not self.name:
            envelope = msgspec.structs.replace(envelope, topic=self.name)
        if envelope.death is None and (envelope.line is None or _lasts(envelope.line)):
            self.envelope = envelope
        return Draft(envelope, draft.bodies)

    @property
    def waiting(self) -> Iterator[int]:
        """Seqs of what waits for somebody whom it is for, rising: as it is when they are first asked for."""
        for seq, waits in self.for_one.items():
            if waits:
                yield seq

    def removable(self) -> Iterator[Message]:
        """The messages that retention may take, oldest first. Each must be removed before the next is asked for."""
        if self.unacked is not None:
            return self.unacked.removable(self.ring, self.waiting)
        return (message for run in self.ring.after(0) for message in run.messages)

    @property
    def for_all(self) -> int:
        """How many messages there are that are for all."""
        return self.ring.live - len(self.for_one)

    @property
    def stays(self) -> bool:
        """It is not forgotten, however long nobody publishes to it."""
        return bool(self.ring.live or self.delayed or self.pinned or (self.unacked and self.unacked.groups))

    def state(self) -> TopicState:
        first, last = self.ring.ends if self.ring.live else (None, None)
        return TopicState(
            self.name,
            self.ring.live,
            self.bytes,
            self.delayed,
            first,
            last,
            self.retention,
            sorted(name for name, group in self.unacked.groups.items() if not group.closing) if self.unacked else [],
        )

    def record(self) -> TopicRecord:
        holds = (self.unacked.count, self.unacked.bytes, self.unacked.accepted) if self.unacked else (0, 0, 0)
        return TopicRecord(
            self.retention, self.loss, self.ring.live, self.bytes, self.next_index, self.last_used, self.pinned,
            *holds,
        )  # fmt: skip

    @classmethod
    def restore(cls, name: str, note: TopicRecord, default: Retention, ring: TopicMessages) -> "TopicLog":
        """Take up where another one left off. `default`: the retention of a topic without settings of its own."""
        topic = cls(name, note.retention if note.pinned else default, note.loss, ring)
        ring.live = note.messages
        topic.bytes, topic.next_index = note.bytes, note.next_index
        topic.last_used, topic.pinned = note.last_used, note.pinned
        return topic


def _lasts(line: bytes) -> bool:
    """It will be that of other messages too, and a topic may keep it."""
    return BODY_PLACEHOLDER in line and len(line) <= SHORT_LINE
