"""Where retained messages are: a Ring for each topic's, and the Order of all of them. Here, in memory.

Both give up a message anywhere in O(1) and find the first one after a place in O(log n), whatever was given up before.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

from ..message import Delivery, Message


class Ring(Protocol):
    """One topic's messages, oldest first. Messages may be removed while one iterates."""

    live: int
    """How many there are."""

    def __iter__(self) -> Iterator[Message]: ...

    @property
    def oldest(self) -> Message:
        """There must be one."""
        ...

    def extend(self, messages: Sequence[Message]) -> None:
        """Add these, oldest first."""
        ...

    def remove(self, message: Message) -> bool:
        """Give the message up; False when it is gone already."""
        ...

    def shift(self, count: int) -> list[Message]:
        """Give up the oldest, at most so many."""
        ...

    def get(self, seq: int) -> Message | None: ...

    def after(self, seq: int) -> Iterator[Message]:
        """The messages behind that place, oldest first."""
        ...

    def newest(self) -> Iterator[Message]:
        """The messages, newest first."""
        ...

    def count(self, seq: int) -> int:
        """How many there are behind that place for all."""
        ...

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Of each that is for all: seq, and bytes of the body."""
        ...


class Order(Protocol):
    """The messages of all topics in the order of the log."""

    def extend(self, messages: Sequence[Message]) -> None: ...

    def remove(self, messages: Sequence[Message]) -> None: ...

    def get(self, seq: int) -> Message | None: ...

    def after(self, seq: int) -> Iterator[Message]:
        """The messages behind that place, oldest first."""
        ...

    def newest(self) -> Iterator[Message]:
        """Every message, newest first."""
        ...

    def before(self, time: float, head: int) -> int:
        """The place behind which every message was accepted at `time` or later; `head` when there is none."""
        ...


class History(Protocol):
    """All retained messages."""

    @property
    def order(self) -> Order: ...

    def ring(self, topic: str) -> Ring:
        """The ring of a new topic."""
        ...


_SEGMENT = 8  # bits: the Order keeps 256 consecutive places together, and forgets a segment as a whole
_SHRINKS = (0, 32)  # messages left in a segment when it is made smaller
_SLACK = 64  # free places and holes of a Ring beyond its live messages before they are given back


class MemoryRing:
    """One topic's messages, oldest first, with holes where one was taken or expired before its turn."""

    __slots__ = ("_front", "_items", "_seqs", "live")

    def __init__(self) -> None:
        self._items: list[Message | None] = []
        self._seqs: list[int] = []  # of the same places; a hole keeps its seq, so that bisection holds
        self._front = 0  # places before it are free
        self.live = 0

    def __iter__(self) -> Iterator[Message]:
        return (message for message in self._items[self._front :] if message is not None)

    @property
    def oldest(self) -> Message:
        """The invariant: the place at the front is never a hole while anything is live."""
        message = self._items[self._front]
        assert message is not None
        return message

    def extend(self, messages: Sequence[Message]) -> None:
        self._items += messages
        self._seqs += [message.seq for message in messages]
        self.live += len(messages)

    def remove(self, message: Message) -> bool:
        """Give the message up; False when it is gone already."""
        place = self._after(message.seq - 1)
        if place == len(self._items) or self._items[place] is not message:
            return False
        self._items[place] = None
        self.live -= 1
        self._advance()
        return True

    def shift(self, count: int) -> list[Message]:
        taken: list[Message] = []
        items, end = self._items, self._front
        while len(taken) < count and end < len(items):
            begin, end = end, min(end + count - len(taken), len(items))
            taken += [message for message in items[begin:end] if message is not None]
        items[self._front : end] = [None] * (end - self._front)
        self._front = end
        self.live -= len(taken)
        self._advance()
        return taken

    def get(self, seq: int) -> Message | None:
        place = self._after(seq - 1)
        return self._items[place] if place < len(self._items) and self._seqs[place] == seq else None

    def after(self, seq: int) -> Iterator[Message]:
        """The live messages behind that place, oldest first."""
        items = self._items
        for place in range(self._after(seq), len(items)):
            if (message := items[place]) is not None:
                yield message

    def newest(self) -> Iterator[Message]:
        """The live messages, newest first."""
        items = self._items
        for place in range(len(items) - 1, self._front - 1, -1):
            if (message := items[place]) is not None:
                yield message

    def count(self, seq: int) -> int:
        return sum(message.delivery is Delivery.ALL for message in self.after(seq))

    def sizes(self) -> Iterator[tuple[int, int]]:
        return ((message.seq, len(message.data)) for message in self if message.delivery is Delivery.ALL)

    def _after(self, seq: int) -> int:
        return bisect_right(self._seqs, seq, self._front)

    def _advance(self) -> None:
        items, front = self._items, self._front
        while front < len(items) and items[front] is None:
            front += 1
        self._front = front
        if len(items) > 2 * self.live + _SLACK:
            live = list(self)
            self._items, self._seqs, self._front = [*live], [message.seq for message in live], 0


class MemoryOrder:
    """Every retained message of the log in its order, by seq."""

    def __init__(self) -> None:
        self._segments: dict[int, dict[int, Message]] = {}
        self._numbers: list[int] = []  # of the segments, rising

    def extend(self, messages: Sequence[Message]) -> None:
        number, segment = -1, {}  # neighbours are mostly in one
        for message in messages:
            seq = message.seq
            if seq >> _SEGMENT != number:
                number = seq >> _SEGMENT
                segment = self._segment(number)
            segment[seq] = message

    def _segment(self, number: int) -> dict[int, Message]:
        """It is there from now on."""
        if number not in self._segments:
            self._segments[number] = {}
            self._numbers.append(number)
        return self._segments[number]

    def get(self, seq: int) -> Message | None:
        segment = self._segments.get(seq >> _SEGMENT)
        return None if segment is None else segment.get(seq)

    def remove(self, messages: Sequence[Message]) -> None:
        number, segment = -1, {}
        for message in messages:
            seq = message.seq
            if seq >> _SEGMENT != number:
                number = seq >> _SEGMENT
                segment = self._segments[number]
            del segment[seq]
            if len(segment) in _SHRINKS:
                segment = self._shrink(number)

    def _shrink(self, number: int) -> dict[int, Message]:
        """The segment, as small as it can be; not kept when it is empty."""
        segment = dict(self._segments.pop(number))  # a dict does not shrink by itself
        if segment:
            self._segments[number] = segment
        else:
            del self._numbers[bisect_right(self._numbers, number) - 1]
        return segment

    def after(self, seq: int) -> Iterator[Message]:
        """The messages behind that place, oldest first."""
        numbers = self._numbers
        for place in range(bisect_right(numbers, (seq >> _SEGMENT) - 1), len(numbers)):
            for message in self._segments[numbers[place]].values():
                if message.seq > seq:
                    yield message

    def newest(self) -> Iterator[Message]:
        """Every message, newest first."""
        for number in reversed(self._numbers):
            yield from reversed(self._segments[number].values())

    def before(self, time: float, head: int) -> int:
        """The place behind which every message was accepted at `time` or later; `head` when there is none."""
        numbers = self._numbers
        place = bisect_left(numbers, time, key=lambda number: next(iter(self._segments[number].values())).time)
        for number in numbers[max(place - 1, 0) : place + 1]:
            for message in self._segments[number].values():
                if message.time >= time:
                    return message.seq - 1
        return head


class MemoryHistory:
    def __init__(self) -> None:
        self.order = MemoryOrder()

    @staticmethod
    def ring(_topic: str) -> MemoryRing:
        return MemoryRing()
