"""Held messages: retention may not remove a message that a group of its topic has not acked, nor a dead message.

The index answers which message retention may remove next. Almost always that is the oldest one, so retention scans the
topic from there. The scan position only advances: a held message that is released behind it goes to a heap. The scan
ends where no group has handed out messages yet, since all of them are held, except those for one subscriber.

A dead message is held until a group of its topic has acked it, or has dead-lettered it again.
"""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import Final

import msgspec

from ...messages.message import ONE, Message
from ..run import Run
from ..slices import SLICE
from ..store import TopicMessages
from .dead_index import DeadIndex, Origin
from .group import Group

SLACK: Final = 64  # entries that the heap may have beyond the number of jobs
SCAN_BATCH: Final = 2_000  # held messages that one call passes: a millisecond, then other work gets its turn


class Counting:
    """Counts the messages that a new group would hold: those for all after `begin`, and of these the ones that no group
    holds yet (`free`, `free_bytes`). They are counted in slices; changes to counted messages are reported to it."""

    __slots__ = ("begin", "count", "free", "free_bytes", "position")

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.position = begin  # messages up to this seq have been counted
        self.count = self.free = self.free_bytes = 0

    def count_on(self, messages: TopicMessages, unacked: "UnackedIndex | None") -> bool:
        """A slice; whether that was the last one."""
        part = [*islice(messages.sizes_after(self.position), SLICE)]
        for seq, size in part:
            self.count += 1
            if unacked is None or not unacked.is_needed(seq):
                self._free(1, size)
        if part:
            self.position = part[-1][0]
        return len(part) < SLICE

    def removed(self, run: Run) -> None:
        """The log has removed these messages, which no group held."""
        for seq, size in run.sizes() if run.for_all else ():
            if self.begin < seq <= self.position:
                self.count -= 1
                self._free(-1, -size)

    def freed(self, seq: int, nbytes: int) -> None:
        """No group holds the message any more. `nbytes`: of its body."""
        if self.begin < seq <= self.position:
            self._free(1, nbytes)

    def _free(self, count: int, nbytes: int) -> None:
        self.free += count
        self.free_bytes += nbytes


_EVERYTHING: Final = 1 << 62  # a seq after all others


class UnackedRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that an UnackedIndex counts, and where retention stands. `released`: ascending."""

    count: int
    bytes: int
    accepted: int
    rewinds: int
    passed: int
    released: list[int]
    scanned: int


class UnackedIndex(msgspec.Struct, gc=False, eq=False):
    """The groups of one topic, its dead messages, and the `count` and `bytes` of all held messages. `accepted`: the
    messages for all that were accepted since the topic has had groups; a group has yet to hand out those of them that
    it has not `passed`.

    The garbage collector does not track it, nor a Group: neither is in a reference cycle, and a log has thousands."""

    groups: dict[str, Group]
    count: int = 0
    bytes: int = 0
    accepted: int = 0
    dead: DeadIndex = msgspec.field(default_factory=DeadIndex)
    rewinds: int = 0  # how often a group went back, so that messages are held again
    _passed: int = 0  # the scan position of retention
    _released: list[int] = msgspec.field(default_factory=list)  # a heap of the messages that were released behind it
    _scanned: int = 0  # held messages that the last call of removable() passed

    def record(self) -> UnackedRecord:
        return UnackedRecord(
            self.count, self.bytes, self.accepted, self.rewinds, self._passed, sorted(self._released), self._scanned
        )

    @classmethod
    def from_record(cls, record: UnackedRecord) -> "UnackedIndex":
        """Without its groups, and without its dead messages, which `count` and `bytes` include."""
        return cls(
            {}, record.count, record.bytes, record.accepted, DeadIndex(), record.rewinds, record.passed,
            record.released, record.scanned,
        )  # fmt: skip

    def is_held(self, message: Message) -> bool:
        if message.delivery is ONE:  # no group gets it
            return False
        if message.redrive is not None:
            group = self.groups.get(message.redrive.group)
            return group is not None and message.seq in (group.redriven or ())
        return self.is_needed(message.seq)

    def is_needed(self, seq: int) -> bool:
        """Whether a message for all must be retained."""
        return self.is_unacked(seq) or (
            seq in self.dead and not any(group.is_done(seq) for group in self.groups.values())
        )

    def is_unacked(self, seq: int) -> bool:
        """Whether a group still needs the message."""
        return any(group.is_unacked(seq) for group in self.groups.values())

    def add(self, run: Run) -> None:
        """Add new messages: every group needs them; a redriven one is needed by its group."""
        if run.envelope.death is not None:  # a run of one message
            self.add_dead(run.seq, run.nbytes, (run.envelope.death.topic, run.envelope.death.group))
        elif self.groups:
            self.count += run.live
            self.bytes += run.nbytes
        self.accepted += run.live if run.for_all else 0

    def add_dead(self, seq: int, nbytes: int, origin: Origin) -> None:
        self.dead.add(seq, nbytes, origin)
        self.count += 1
        self.bytes += nbytes

    def remove(self, seq: int, nbytes: int) -> None:
        """A held message is held no more, or is gone."""
        self.count -= 1
        self.bytes -= nbytes
        if seq <= self._passed:
            heappush(self._released, seq)
            if len(self._released) > SLACK + sum(len(group.jobs.by_seq) for group in self.groups.values()):
                self._passed = self._released[0] - 1  # scanning them again costs no more than the heap has saved
                self._released.clear()

    @classmethod
    def of_dead(cls, dead: DeadIndex) -> "UnackedIndex | None":
        """The index of a topic that has lost its last group."""
        return cls({}, len(dead), dead.nbytes, 0, dead) if dead else None

    def recount(self, messages: TopicMessages) -> None:
        """Count the held messages anew."""
        held = [size for seq, size in messages.sizes_after(0) if self.is_needed(seq)]
        back = [seq for group in self.groups.values() for seq in group.redriven or ()]
        held += [len(message.data) for message in map(messages.get, back) if message is not None]
        self.count, self.bytes = len(held), sum(held)

    @property
    def redriven(self) -> int:
        """How many messages are back for one group."""
        return sum(len(group.redriven or ()) for group in self.groups.values())

    def forget(self, message: Message) -> None:
        """A held message is gone: its ttl is over, or its topic was purged."""
        for name, group in self.groups.items():
            if message.redrive is None or message.redrive.group == name:
                group.forget(message.seq)

    def removable(self, messages: TopicMessages, unclaimed: Iterable[int]) -> Iterator[Message]:
        """The messages that are not held, oldest first. The caller must remove each before it asks for the next.
        `unclaimed`: seqs of the messages for one subscriber, oldest first. If it has passed SCAN_BATCH held messages,
        it ends early: `is_scanning` is true then, and the next call goes on from there."""
        self._scanned = 0
        while self._released:
            message = messages.get(self._released[0])
            if message is None or self.is_needed(message.seq):  # by a group that was created since
                heappop(self._released)
            else:
                yield message
        begun = min((group.cursor for group in self.groups.values()), default=_EVERYTHING)
        for run in messages.after(self._passed):
            if self.is_scanning:
                return
            if run.first > begun:
                break
            yield from self._free_in(run, begun)
        for seq in tuple(unclaimed):
            if seq > begun and (message := messages.get(seq)) is not None:
                yield message

    @property
    def is_scanning(self) -> bool:
        return self._scanned >= SCAN_BATCH

    def _free_in(self, run: Run, begun: int) -> Iterator[Message]:
        for seq, _ in run.sizes():
            if self._passed < seq <= begun:
                if run.envelope.redrive is not None or (run.for_all and self.is_needed(seq)):
                    self._passed = seq
                    self._scanned += 1
                elif message := run.get(seq):
                    self._passed = seq - 1  # past the holes before it, too
                    yield message
