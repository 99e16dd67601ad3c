"""A topic in the log: its messages, its retention, its trim mark, and the state that is derived from them."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from ..messages.message import BODY_PLACEHOLDER, ONE, Draft, Envelope, Message
from .groups.unacked import UnackedIndex
from .meter import Meter
from .run import MESSAGE_COST, memory_cost, one_cost, resident_cost
from .store import TopicMessages
from .trims import TrimMark

TOPIC_COST: Final = 1_088  # bytes of memory that a topic takes at most; a test measures it
SHORT_LINE: Final = 64  # bytes of a line that TOPIC_COST includes, for when no message has the line any more


class Weight(msgspec.Struct, frozen=True, gc=False):
    """The size of messages: how many, bytes of their bodies, and bytes of memory that they take while retained."""

    messages: int
    nbytes: int
    memory: int
    resident: int
    """The part of the memory that they take even if they are on a disk."""


def weigh(drafts: Sequence[Draft]) -> Weight:
    messages = nbytes = memory = resident = 0
    for draft in drafts:
        envelope, several = draft.envelope, len(draft.bodies)
        messages += several
        nbytes += sum(map(len, draft.bodies))
        each = memory_cost(envelope)
        memory += several * each
        if each != MESSAGE_COST or envelope.delivery is ONE:  # rare: most messages have neither
            memory += several * one_cost(envelope)
            resident += several * resident_cost(envelope, envelope.ttl is not None)
    return Weight(messages, nbytes, nbytes + memory, resident)


class Retention(msgspec.Struct, frozen=True):
    """The bounds of a topic: messages, bytes of their bodies, age in seconds."""

    max_messages: int = 1_000
    max_bytes: int = 8 << 20
    max_age: float = 86_400.0


class Limits(msgspec.Struct, frozen=True):
    """The bounds of the whole log. `retention` is the default of topics. `total_bytes` counts bodies and overhead.
    `groups` is per topic, `topic_idle` is in seconds. `memory_bytes` counts what is in memory even if messages are on
    a disk: delayed messages, leases, groups, and the state of messages that have a ttl or are for one subscriber.
    `total_setting` names the setting behind `total_bytes`, for the sentence of a refusal."""

    retention: Retention = Retention()
    total_bytes: int = 256 << 20
    topics: int = 10_000
    groups: int = 100
    topic_idle: float = 3_600.0
    memory_bytes: int = 256 << 20
    total_setting: str = "max_total_bytes"


class TopicState(msgspec.Struct, frozen=True):
    """A topic as clients see it. `bytes` counts bodies. `delayed`: messages of delayed publishes. `first`, `last`: ids
    of the oldest and the newest message. `groups`: their names. `rate`: messages accepted a second, now."""

    topic: str
    messages: int
    bytes: int
    delayed: int
    first: str | None
    last: str | None
    retention: Retention
    groups: list[str]
    rate: float
    paused: bool


class TopicRecord(msgspec.Struct, frozen=True):
    """The stored state of a topic, without its messages. `held`, `held_bytes` and `accepted`: `count`, `bytes` and
    `accepted` of its UnackedIndex."""

    retention: Retention
    loss: TrimMark
    messages: int
    bytes: int
    next_index: int
    last_used: float
    pinned: bool
    held: int = 0
    held_bytes: int = 0
    accepted: int = msgspec.field(default=0, name="come")  # as files have it
    paused: bool = False


class TopicLog(msgspec.Struct, gc=False, eq=False):
    """The garbage collector does not track it: it is in no reference cycle."""

    name: str
    retention: Retention
    trim_mark: TrimMark
    messages: TopicMessages
    for_one: dict[int, bool] = msgspec.field(default_factory=dict)
    """Messages for one, by seq, ascending: True waits, False is in transit."""

    envelope: Envelope | None = None  # the last one, so that equal envelopes are stored once
    bytes: int = 0
    delayed: int = 0  # messages of delayed publishes
    next_index: int = 0  # so many messages were accepted, stored or not
    last_used: float = 0.0
    paused: bool = False  # nothing is accepted
    pinned: bool = False  # it has settings of its own, so it is not dropped when it is idle
    unacked: UnackedIndex | None = None  # None without groups and dead messages
    published: Meter = msgspec.field(default_factory=Meter)  # of next_index

    def share(self, draft: Draft) -> Draft:
        """The draft with a shared envelope: the topic's last one if it is equal, or else one that shares the topic's
        name."""
        envelope = draft.envelope
        if envelope is self.envelope:
            return draft
        if envelope == self.envelope:
            return Draft(self.envelope, draft.bodies)
        if envelope.topic is not self.name:
            envelope = msgspec.structs.replace(envelope, topic=self.name)
        if _is_shareable(envelope):
            self.envelope = envelope
        return Draft(envelope, draft.bodies)

    @property
    def unclaimed(self) -> Iterator[int]:
        """Seqs of the messages that wait for a subscriber, ascending."""
        for seq, waits in self.for_one.items():
            if waits:
                yield seq

    def removable(self) -> Iterator[Message]:
        """The messages that retention may remove, oldest first. Remove each before asking for the next."""
        if self.unacked is not None:
            return self.unacked.removable(self.messages, self.unclaimed)
        return (message for run in self.messages.after(0) for message in run.messages)

    @property
    def for_all(self) -> int:
        """The number of messages that are for all subscribers."""
        return self.messages.live - len(self.for_one) - (self.unacked.redriven if self.unacked else 0)

    @property
    def stays(self) -> bool:
        """True if the topic is not dropped when it is idle."""
        return bool(
            self.messages.live or self.delayed or self.pinned or self.paused or (self.unacked and self.unacked.groups)
        )

    def rate(self, now: float) -> float:
        """Messages accepted a second, now."""
        return self.published.rate(now, self.next_index)

    def state(self, now: float) -> TopicState:
        first, last = self.messages.ends if self.messages.live else (None, None)
        return TopicState(
            self.name,
            self.messages.live,
            self.bytes,
            self.delayed,
            first,
            last,
            self.retention,
            sorted(name for name, group in self.unacked.groups.items() if not group.closing) if self.unacked else [],
            self.rate(now),
            self.paused,
        )

    def record(self) -> TopicRecord:
        held = (self.unacked.count, self.unacked.bytes, self.unacked.accepted) if self.unacked else (0, 0, 0)
        return TopicRecord(
            self.retention, self.trim_mark, self.messages.live, self.bytes, self.next_index, self.last_used,
            self.pinned, *held, self.paused,
        )  # fmt: skip

    @classmethod
    def restore(cls, name: str, record: TopicRecord, default: Retention, messages: TopicMessages) -> "TopicLog":
        """Restore a stored topic. `default`: the retention of a topic without settings of its own."""
        topic = cls(name, record.retention if record.pinned else default, record.loss, messages)
        messages.live = record.messages
        topic.bytes, topic.next_index = record.bytes, record.next_index
        topic.last_used, topic.pinned, topic.paused = record.last_used, record.pinned, record.paused
        return topic


def _is_shareable(envelope: Envelope) -> bool:
    """Whether other messages can have the same envelope, and it is short enough to keep on the topic."""
    if any(part is not None for part in (envelope.death, envelope.headers, envelope.redrive, envelope.ordering)):
        return False
    return envelope.line is None or (BODY_PLACEHOLDER in envelope.line and len(envelope.line) <= SHORT_LINE)
