"""The store of retained messages: TopicMessages for each topic, and LogMessages for all of them. Here, in memory.

TopicMessages finds the run of a message, or the first run after a seq, in O(log n), however many were removed before.
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
    """One topic's messages, oldest first. Messages may be removed while their runs are iterated."""

    live: int
    """The number of messages."""

    @property
    def ends(self) -> tuple[str, str]:
        """The ids of the oldest and of the newest message. There must be one."""
        ...

    @property
    def first(self) -> Run:
        """The oldest run. There must be one."""
        ...

    def extend(self, runs: Sequence[Run]) -> None:
        """Append newer runs, oldest first."""
        ...

    def remove(self, seq: int) -> Run | None:
        """Remove the message, and return it as a run of its own. None if it was removed before."""
        ...

    def shift(self, count: int) -> list[Run]:
        """Remove and return the `count` oldest messages, or all of them."""
        ...

    def find(self, seq: int) -> Run | None:
        """The run that has the message; None if it was removed."""
        ...

    def get(self, seq: int) -> Message | None: ...

    def after(self, seq: int) -> Iterator[Run]:
        """The runs with messages after that seq, oldest first."""
        ...

    def newest(self) -> Iterator[Run]:
        """The runs, newest first."""
        ...

    def count_after(self, seq: int) -> int:
        """The number of messages for all subscribers after that seq."""
        ...

    def sizes_after(self, seq: int) -> Iterator[tuple[int, int]]:
        """The seq and the bytes of the body of each message for all subscribers after that seq, oldest first."""
        ...


class LogMessages(Protocol):
    """The messages of all topics in the order of the log."""

    def get(self, seq: int) -> Message | None: ...

    def after(self, seq: int) -> Iterator[Run]:
        """The runs with messages after that seq, oldest first."""
        ...

    def newest(self) -> Iterator[Run]:
        """All runs, newest first."""
        ...

    def position_before(self, time: float, head: int, own: bool) -> int:
        """The seq after which every message was accepted at `time` or later; `head` if there is no such message. `own`:
        the time is by the log's own clock, not the wall clock."""
        ...


class MessageStore(Protocol):
    """All retained messages."""

    @property
    def messages(self) -> LogMessages: ...

    def of_topic(self, topic: str) -> TopicMessages:
        """The messages of a new topic."""
        ...


_SEGMENT: Final = 8  # bits: the runs whose keys share all higher bits (256 positions) are in one segment
_SHRINKS: Final = (0, 32)  # numbers of runs at which a segment that loses runs is rebuilt


class MemoryLogMessages:
    def __init__(self) -> None:
        self._segments: dict[int, dict[int, Run]] = {}
        self._numbers: list[int] = []  # of the segments, ascending

    def append(self, run: Run) -> None:
        number = run.key >> _SEGMENT
        segment = self._segments.get(number)
        if segment is None:
            segment = self._segments[number] = {}
            self._numbers.append(number)
        segment[run.key] = run

    def put(self, key: int, left: Run | None) -> None:
        """Replace the run with that key, which must exist, by what is left of it; None removes it."""
        number = key >> _SEGMENT
        segment = self._segments[number]
        if left is not None:
            segment[key] = left
            return
        del segment[key]
        if len(segment) in _SHRINKS:
            self._shrink(number)

    def _shrink(self, number: int) -> None:
        """Rebuild the segment, so that it takes less memory; remove it if it is empty."""
        segment = dict(self._segments.pop(number))  # a dict does not shrink by itself
        if segment:
            self._segments[number] = segment
        else:
            del self._numbers[bisect_left(self._numbers, number)]

    def get(self, seq: int) -> Message | None:
        # Most look-ups are for a message with a run of its own.
        exact = self._segments.get(seq >> _SEGMENT, {}).get(seq)
        run = exact or next(self.after(seq - 1), None)
        return None if run is None else run.get(seq)

    def after(self, seq: int) -> Iterator[Run]:
        numbers = self._numbers
        for index in range(bisect_left(numbers, (seq + 1) >> _SEGMENT), len(numbers)):
            for run in self._segments[numbers[index]].values():
                if run.seq > seq:
                    yield run

    def newest(self) -> Iterator[Run]:
        for number in self._numbers[::-1]:  # segments may be added and removed during the iteration
            yield from [*self._segments.get(number, {}).values()][::-1]

    def position_before(self, time: float, head: int, own: bool) -> int:
        numbers, when = self._numbers, attrgetter("at" if own else "time")
        index = bisect_left(numbers, time, key=lambda number: when(next(iter(self._segments[number].values()))))
        for number in numbers[max(index - 1, 0) : index + 1]:
            for run in self._segments[number].values():
                if when(run) >= time:
                    return run.first - 1
        return head


class MemoryTopicMessages(msgspec.Struct, gc=False, eq=False):
    """Its runs are in the log's messages, too. The garbage collector does not track it: it is in no reference cycle."""

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
        for run in runs:
            self._runs.append(run)
            self._log.append(run)
            self.live += run.live

    def remove(self, seq: int) -> Run | None:
        run = self._runs.find(seq)
        return None if run is None else self._part(run, *run.without(seq))

    def shift(self, count: int) -> list[Run]:
        shifted: list[Run] = []
        while count > 0 and self.live:
            run = self._runs.first
            removed = self._part(run, *run.split(count))
            shifted.append(removed)
            count -= removed.live
        return shifted

    def _part(self, run: Run, removed: Run, left: Run | None) -> Run:
        self._runs.put(run.key, left)
        self._log.put(run.key, left)
        self.live -= removed.live
        return removed

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
