"""Holds: what retention may not take from a topic, because one of its groups has not acked it.

The question is which message may go next. Almost always it is the oldest, so retention walks the topic from there. It
walks past what is held and does not come back: what is released behind it joins a heap.
"""

from heapq import heappop, heappush

from .group import Group
from .history import Ring
from .message import Delivery, Message


class Holds:
    """The groups of one topic, and how many of its messages (and bytes of bodies) they hold."""

    __slots__ = ("_freed", "_passed", "bytes", "count", "groups")

    def __init__(self, groups: dict[str, Group], ring: Ring) -> None:
        self.groups = groups
        held = [len(message.data) for message in ring if self.holds(message)]
        self.count = len(held)
        self.bytes = sum(held)
        self._passed = 0  # retention has walked to here
        self._freed: list[int] = []  # a heap of what was released behind it

    def holds(self, message: Message) -> bool:
        if message.delivery is Delivery.ONE:  # it is for a subscriber
            return False
        return any(group.holds(message.seq) for group in self.groups.values())

    def add(self, message: Message) -> None:
        """A new message: every group needs it."""
        self.count += 1
        self.bytes += len(message.data)

    def remove(self, message: Message) -> None:
        """A message that was held is done, or lost."""
        self.count -= 1
        self.bytes -= len(message.data)
        if message.seq <= self._passed:
            heappush(self._freed, message.seq)

    def lose(self, message: Message) -> None:
        """A message that was held is gone: its ttl is over."""
        for group in self.groups.values():
            group.lose(message.seq)

    def oldest_free(self, ring: Ring) -> Message | None:
        """The oldest message that nobody holds."""
        while self._freed:
            message = ring.get(self._freed[0])
            if message is not None:
                return message
            heappop(self._freed)
        for message in ring.after(self._passed):
            if not self.holds(message):
                self._passed = message.seq - 1  # past the holes before it too
                return message
            self._passed = message.seq
        return None
