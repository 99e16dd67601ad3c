"""Where retained messages are: a Ring for each topic's, and the Order of all of them. Here, in memory.

Whatever was given up before, a ring finds the run that has a message, or the first behind a place, in O(log n).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final, Protocol

import msgspec

from ..messages.message import Message
from .run import Run
from .run_list import RunList


class TopicMessages(Protocol):
    """One topic's messages, oldest first. While one walks along its runs, what one was given may be removed."""

    live: int
    """How many there are."""

    @property
    def ends(self) -> tuple[str, str]:
        """The ids of the oldest and of the newest. There must be one."""
        ...

    @property
    def first(self) -> Run:
        """The oldest messages, as many as are in one run. There must be one."""
        ...

    def extend(self, runs: Sequence[Run]) -> None:
        """Add these, oldest first."""
        ...

    def remove(self, seq: int) -> Run | None:
        """Give the message up: a run of it alone. None when it is gone already."""
        ...

    def shift(self, count: int) -> list[Run]:
        """Give up the oldest messages, at most so many."""
        ...

    def find(self, seq: int) -> Run | None:
        """The run that has the message; None when it is gone."""
        ...

    def get(self, seq: int) -> Message | None: ...

    def after(self, seq: int) -> Iterator[Run]:
        """The runs that have messages behind that place, oldest first."""
        ...

    def newest(self) -> Iterator[Run]:
        """The runs, newest first."""
        ...

    def count_after(self, seq: int) -> int:
        """How many there are behind that place for all."""
        ...

    def sizes_after(self, seq: int) -> Iterator[tuple[int, int]]:
        """Of each behind that place that is for all, oldest first: seq, and bytes of the body."""
        ...


class LogMessages(Protocol):
    """The messages of all topics in the order of the log, as their rings have them."""

    def get(self, seq: int) -> Message | None: ...

    def after(self, seq: int) -> Iterator[Run]:
        """The runs that have messages behind that place, oldest first."""
        ...

    def newest(self) -> Iterator[Run]:
        """Every run, newest first."""
        ...

    def position_before(self, time: float, head: int, own: bool) -> int:
        """The place behind which every message was accepted at `time` or later; `head` when there is none. `own`: the
        time is one on the log's own clock."""
        ...


class MessageStore(Protocol):
    """All retained messages."""

    @property
    def messages(self) -> LogMessages: ...

    def of_topic(self, topic: str) -> TopicMessages:
        """The ring of a new topic."""
        ...


_SEGMENT: Final = 8  # bits: an order keeps the runs that end in 256 consecutive places together, and forgets them so
_SHRINKS: Final = (0, 32)  # runs left in a segment when it is made smaller


class MemoryLogMessages:
    def __init__(self) -> None:
        self._segments: dict[int, dict[int, Run]] = {}
        self._numbers: list[int] = []  # of the segments, rising

    def extend(self, runs: Sequence[Run]) -> None:
        for run in runs:
            number = run.key >> _SEGMENT
            segment = self._segments.get(number)
            if segment is None:
                segment = self._segments[number] = {}
                self._numbers.append(number)
            segment[run.key] = run

    def put(self, key: int, left: Run | None) -> None:
        """What is left of the run with that key, which is there."""
        number = key >> _SEGMENT
        segment = self._segments[number]
        if left is not None:
            segment[key] = left
            return
        del segment[key]
        if len(segment) in _SHRINKS:
            self._shrink(number)

    def _shrink(self, number: int) -> None:
        """Make the segment as small as it can be; it goes when it is empty."""
        segment = dict(self._segments.pop(number))  # a dict does not shrink by itself
        if segment:
            self._segments[number] = segment
        else:
            del self._numbers[bisect_left(self._numbers, number)]

    def get(self, seq: int) -> Message | None:
        exact = self._segments.get(seq >> _SEGMENT, {}).get(seq)  # what somebody looks for is mostly by itself
        run = exact or next(self.after(seq - 1), None)
        return None if run is None else run.get(seq)

    def after(self, seq: int) -> Iterator[Run]:
        numbers = self._numbers
        for place in range(bisect_left(numbers, (seq + 1) >> _SEGMENT), len(numbers)):
            for run in self._segments[numbers[place]].values():
                if run.seq > seq:
                    yield run

    def newest(self) -> Iterator[Run]:
        for number in self._numbers[::-1]:  # while one walks, they may come and go
            yield from [*self._segments.get(number, {}).values()][::-1]

    def position_before(self, time: float, head: int, own: bool) -> int:
        numbers, when = self._numbers, attrgetter("at" if own else "time")
        place = bisect_left(numbers, time, key=lambda number: when(next(iter(self._segments[number].values()))))
        for number in numbers[max(place - 1, 0) : place + 1]:
            for run in self._segments[number].values():
                if when(run) >= time:
                    return run.first - 1
        return head


class MemoryTopicMessages(msgspec.Struct, gc=False, eq=False):
    """Its messages are in the log's order too. The garbage collector does not track it: it is in no cycle."""

    _log: MemoryLogMessages
    _runs: RunList = msgspec.field(default_factory=RunList)
    live: int = 0

    @property
    def ends(self) -> tuple[str, str]:
        oldest, newest = self.first, next(self._runs.newest())
        return f"{oldest.epoch}-{oldest.first}", f"{newest.epoch}-{newest.seq}"

    @property
    def first(self) -> Run:
        return self._runs.first

    def extend(self, runs: Sequence[Run]) -> None:
        self._runs.extend(runs)
        self._log.extend(runs)
        for run in runs:
            self.live += run.live

    def remove(self, seq: int) -> Run | None:
        run = self._runs.find(seq)
        return None if run is None else self._part(run, *run.without(seq))

    def shift(self, count: int) -> list[Run]:
        taken: list[Run] = []
        while count > 0 and self.live:
            run = self._runs.first
            gone = self._part(run, *run.split(count))
            taken.append(gone)
            count -= gone.live
        return taken

    def _part(self, run: Run, gone: Run, left: Run | None) -> Run:
        self._runs.put(run.key, left)
        self._log.put(run.key, left)
        self.live -= gone.live
        return gone

    def find(self, seq: int) -> Run | None:
        return self._runs.find(seq)

    def get(self, seq: int) -> Message | None:
        run = self._runs.find(seq)
        return None if run is None else run.get(seq)

    def after(self, seq: int) -> Iterator[Run]:
        return self._runs.after(seq)

    def newest(self) -> Iterator[Run]:
        return self._runs.newest()

    def count_after(self, seq: int) -> int:
        return sum(run.count_after(seq) for run in self._runs.after(seq) if run.for_all)

    def sizes_after(self, seq: int) -> Iterator[tuple[int, int]]:
        every = chain.from_iterable(run.sizes() for run in self._runs.after(seq) if run.for_all)
        return (one for one in every if one[0] > seq)


class MemoryMessageStore:
    def __init__(self) -> None:
        self.messages = MemoryLogMessages()

    def of_topic(self, _topic: str) -> MemoryTopicMessages:
        return MemoryTopicMessages(self.messages)
