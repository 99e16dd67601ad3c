"""Where retained messages are: a Ring for each topic's, and the Order of all of them. Here, in memory.

Both give up a message anywhere in O(1) and find the first one after a place in O(log n), whatever was given up before.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, Protocol

from ..message import Message, how_many
from .run import Run
from .shelf import Shelf


class Ring(Protocol):
    """One topic's messages, oldest first. Messages may be removed while one iterates."""

    live: int
    """How many there are."""

    def __iter__(self) -> Iterator[Message]: ...

    @property
    def oldest(self) -> Message:
        """There must be one."""
        ...

    def extend(self, runs: Sequence[Run]) -> None:
        """Add these, oldest first. They are the ring's from now on."""
        ...

    def remove(self, seq: int) -> Run | None:
        """Give the message up: a run of it alone. None when it is gone already."""
        ...

    def shift(self, count: int) -> list[Run]:
        """Give up the oldest messages, at most so many."""
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
    """The messages of all topics in the order of the log, as their rings have them."""

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


_SEGMENT: Final = 12  # bits: an order keeps 4,096 consecutive places together, so that it never moves more at once


class MemoryOrder:
    def __init__(self) -> None:
        self._segments: dict[int, Shelf] = {}
        self._numbers: list[int] = []  # of the segments, rising

    def extend(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._segment(run.seq >> _SEGMENT).extend((run,))

    def _segment(self, number: int) -> Shelf:
        """It is there from now on."""
        if number not in self._segments:
            self._segments[number] = Shelf()
            self._numbers.append(number)
        return self._segments[number]

    def discard(self, run: Run) -> None:
        """It must be there."""
        number = run.seq >> _SEGMENT
        segment = self._segments[number]
        segment.discard(run)
        if not segment:
            del self._segments[number], self._numbers[bisect_left(self._numbers, number)]

    def get(self, seq: int) -> Message | None:
        run = next(self._after(seq - 1), None)
        return None if run is None else run.get(seq)

    def after(self, seq: int) -> Iterator[Message]:
        for run in self._after(seq):
            yield from run.after(seq)

    def _after(self, seq: int) -> Iterator[Run]:
        """Those that end behind that place, oldest first."""
        numbers = self._numbers
        for place in range(bisect_left(numbers, (seq + 1) >> _SEGMENT), len(numbers)):
            yield from self._segments[numbers[place]].after(seq)

    def newest(self) -> Iterator[Message]:
        for number in reversed(self._numbers):
            for run in self._segments[number].newest():
                yield from run.newest()

    def before(self, time: float, head: int) -> int:
        numbers = self._numbers
        place = bisect_left(numbers, time, key=lambda number: self._segments[number].first.time)
        for number in numbers[max(place - 1, 0) : place + 1]:
            for run in self._segments[number].after(0):
                if run.time >= time:
                    return next(iter(run)).seq - 1
        return head


class MemoryRing:
    """What it has, the order has too."""

    __slots__ = ("_order", "_shelf", "live")

    def __init__(self, order: MemoryOrder) -> None:
        self._order = order
        self._shelf = Shelf()
        self.live = 0

    def __iter__(self) -> Iterator[Message]:
        return self.after(0)

    @property
    def oldest(self) -> Message:
        return next(iter(self._shelf.first))

    def extend(self, runs: Sequence[Run]) -> None:
        self._shelf.extend(runs)
        self._order.extend(runs)
        self.live += how_many(runs)

    def remove(self, seq: int) -> Run | None:
        run = self._shelf.at(seq)
        taken = None if run is None else run.remove(seq)
        if run is not None and taken is not None:
            self._given_up(run, 1)
        return taken

    def shift(self, count: int) -> list[Run]:
        taken: list[Run] = []
        while count > 0 and self._shelf:
            run = self._shelf.first
            taken.append(run.shift(count))
            count -= len(taken[-1])
            self._given_up(run, len(taken[-1]))
        return taken

    def _given_up(self, run: Run, count: int) -> None:
        """So many messages of it."""
        self.live -= count
        if not len(run):
            self._shelf.discard(run)
            self._order.discard(run)

    def get(self, seq: int) -> Message | None:
        run = self._shelf.at(seq)
        return None if run is None else run.get(seq)

    def after(self, seq: int) -> Iterator[Message]:
        for run in self._shelf.after(seq):
            yield from run.after(seq)

    def newest(self) -> Iterator[Message]:
        for run in self._shelf.newest():
            yield from run.newest()

    def count(self, seq: int) -> int:
        return sum(run.count(seq) for run in self._shelf.after(seq) if run.for_all)

    def sizes(self) -> Iterator[tuple[int, int]]:
        return chain.from_iterable(run.sizes() for run in self._shelf.after(0) if run.for_all)


class MemoryHistory:
    def __init__(self) -> None:
        self.order = MemoryOrder()

    def ring(self, _topic: str) -> MemoryRing:
        return MemoryRing(self.order)
