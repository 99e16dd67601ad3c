"""Holds: what retention may not take from a topic, because one of its groups has not acked it, or because it is dead
and nobody has taken it away.

The question is which message may go next. Almost always it is the oldest, so retention walks the topic from there. It
walks past what is held and does not come back: what is released behind it joins a heap. It does not walk on to what no
worker has had yet: all of that is held, unless it is for one subscriber.

What is dead is held until a group of its topic has done it: acked it, or buried it again.
"""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import Final

from ...messages.message import Delivery, Message
from ..run import Run
from ..slices import SLICE
from ..store import TopicMessages
from .group import Group

SLACK: Final = 64  # released messages that are remembered beyond as many as are under way


class Counting:
    """For a group that begins at a place: how many messages for all there are behind it; and of those that no group
    holds yet, how many, and bytes of bodies. They are counted in slices, and who changes what was counted says so."""

    __slots__ = ("begin", "count", "free", "free_bytes", "place")

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.place = begin  # up to here they were counted
        self.count = self.free = self.free_bytes = 0

    def count_on(self, ring: TopicMessages, holds: "UnackedIndex | None") -> bool:
        """A slice; whether that was the last one."""
        part = [*islice(ring.sizes(self.place), SLICE)]
        for seq, size in part:
            self.count += 1
            if holds is None or not holds.is_needed(seq):
                self._free(1, size)
        if part:
            self.place = part[-1][0]
        return len(part) < SLICE

    def removed(self, run: Run) -> None:
        """These are gone, which nobody held any more."""
        for seq, size in run.sizes() if run.for_all else ():
            if self.begin < seq <= self.place:
                self.count -= 1
                self._free(-1, -size)

    def freed(self, seq: int, nbytes: int) -> None:
        """No group holds the message of so many bytes any more."""
        if self.begin < seq <= self.place:
            self._free(1, nbytes)

    def _free(self, count: int, nbytes: int) -> None:
        self.free += count
        self.free_bytes += nbytes


_EVERYTHING: Final = 1 << 62  # a place behind all others


class UnackedIndex:
    """The groups of one topic, its dead messages (seqs, and bytes of bodies), and how many messages (and bytes) are
    held in all. `come`: how many for all have come since it has groups; a group has not handed out so many of them as
    it has not `passed`."""

    __slots__ = ("_passed", "_released", "accepted", "bytes", "count", "dead", "groups")

    def __init__(
        self, groups: dict[str, Group], count: int = 0, nbytes: int = 0, come: int = 0,
        dead: dict[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.groups = groups
        self.dead: dict[int, int] = {} if dead is None else dead
        self.count = count
        self.bytes = nbytes
        self.accepted = come
        self._passed = 0  # retention has walked to here
        self._released: list[int] = []  # a heap of what was released behind it

    def is_held(self, message: Message) -> bool:
        if message.delivery is Delivery.ONE:  # it is for a subscriber
            return False
        return self.is_needed(message.seq)

    def is_needed(self, seq: int) -> bool:
        """Whether the message, which is for all, must stay."""
        return self.is_unacked(seq) or (
            seq in self.dead and not any(group.is_done(seq) for group in self.groups.values())
        )

    def is_unacked(self, seq: int) -> bool:
        """Whether a group has not done the message."""
        return any(group.is_unacked(seq) for group in self.groups.values())

    def add(self, run: Run) -> None:
        """New messages: every group needs them."""
        if run.envelope.death is not None:  # such a message is by itself
            self.add_dead(run.seq, run.nbytes)
        elif self.groups:
            self.count += run.live
            self.bytes += run.nbytes
        self.accepted += run.live

    def add_dead(self, seq: int, nbytes: int) -> None:
        self.dead[seq] = nbytes
        self.count += 1
        self.bytes += nbytes

    def remove(self, seq: int, nbytes: int) -> None:
        """A message that was held, and has so many bytes, is done, or lost."""
        self.count -= 1
        self.bytes -= nbytes
        if seq <= self._passed:
            heappush(self._released, seq)
            if len(self._released) > SLACK + sum(len(group.jobs) for group in self.groups.values()):
                self._passed = self._released[0] - 1  # to walk past those costs no more than was spared
                self._released.clear()

    @classmethod
    def of_dead(cls, dead: dict[int, int]) -> "UnackedIndex | None":
        """For a topic that has no groups any more."""
        return cls({}, len(dead), sum(dead.values()), 0, dead) if dead else None

    def recount(self, ring: TopicMessages) -> None:
        """What is held now."""
        held = [size for seq, size in ring.sizes(0) if self.is_needed(seq)]
        self.count, self.bytes = len(held), sum(held)

    def forget(self, seq: int) -> None:
        """A message that was held is gone: its ttl is over."""
        for group in self.groups.values():
            group.forget(seq)

    def removable(self, ring: TopicMessages, waiting: Iterable[int]) -> Iterator[Message]:
        """The messages that nobody holds, oldest first. Each must be removed before the next is asked for. `waiting`:
        seqs of what is for one subscriber, oldest first."""
        while self._released:
            message = ring.get(self._released[0])
            if message is None or self.is_needed(message.seq):  # by a group that came since
                heappop(self._released)
            else:
                yield message
        begun = min((group.cursor for group in self.groups.values()), default=_EVERYTHING)
        for run in ring.after(self._passed):
            if run.first > begun:
                break
            yield from self._free_in(run, begun)
        for seq in tuple(waiting):
            if seq > begun and (message := ring.get(seq)) is not None:
                yield message

    def _free_in(self, run: Run, begun: int) -> Iterator[Message]:
        for seq, _ in run.sizes():
            if self._passed < seq <= begun:
                if run.for_all and self.is_needed(seq):
                    self._passed = seq
                elif message := run.get(seq):
                    self._passed = seq - 1  # past the holes before it too
                    yield message
