"""The messages with a priority or an order key. A group finds the next message of each priority here."""

from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import Final

_BLOCK: Final = 512  # seqs in a block: adding and removing one costs the same, however many there are

_last = itemgetter(-1)


class SeqList:
    """Seqs in ascending order."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[list[int]] = []

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __contains__(self, seq: int) -> bool:
        return self.after(seq - 1) == seq

    def append(self, seq: int) -> None:
        """It must be greater than all others."""
        if self._blocks and len(self._blocks[-1]) < _BLOCK:
            self._blocks[-1].append(seq)
        else:
            self._blocks.append([seq])

    def remove(self, seq: int) -> None:
        """It must be there."""
        place = bisect_left(self._blocks, seq, key=_last)
        block = self._blocks[place]
        del block[bisect_left(block, seq)]
        if not block:
            del self._blocks[place]

    def after(self, seq: int) -> int | None:
        """The first that is greater."""
        place = bisect_right(self._blocks, seq, key=_last)
        if place == len(self._blocks):
            return None
        block = self._blocks[place]
        return block[bisect_right(block, seq)]


class TopicOrder:
    """Those of one topic. `levels`: the messages for all with a priority, by priority. `count`: of all."""

    __slots__ = ("_returned", "count", "levels")

    def __init__(self) -> None:
        self.count = 0
        self.levels: dict[int, SeqList] = {}
        self._returned: dict[int, int] = {}  # the priorities of the others, by seq

    def priority_of(self, seq: int) -> int:
        """The priority of a message that a group gets."""
        return next((priority for priority, seqs in self.levels.items() if seq in seqs), self._returned.get(seq, 0))

    def add(self, seq: int, priority: int, for_all: bool) -> None:
        self.count += 1
        if priority and for_all:
            self.levels.setdefault(priority, SeqList()).append(seq)
        elif priority:
            self._returned[seq] = priority

    def remove(self, seq: int, priority: int, for_all: bool) -> None:
        self.count -= 1
        if not (priority and for_all):
            self._returned.pop(seq, None)
            return
        self.levels[priority].remove(seq)
        if not self.levels[priority]:
            del self.levels[priority]


class OrderedMessages:
    """`count`: of all topics."""

    def __init__(self) -> None:
        self.count = 0
        self._topics: dict[str, TopicOrder] = {}

    def of(self, topic: str) -> TopicOrder | None:
        """None for a topic without such messages."""
        return self._topics.get(topic)

    def add(self, topic: str, seq: int, priority: int, for_all: bool) -> None:
        if topic not in self._topics:
            self._topics[topic] = TopicOrder()
        self._topics[topic].add(seq, priority, for_all)
        self.count += 1

    def remove(self, topic: str, seq: int, priority: int, for_all: bool) -> None:
        self._topics[topic].remove(seq, priority, for_all)
        self.count -= 1
        if not self._topics[topic].count:
            del self._topics[topic]
