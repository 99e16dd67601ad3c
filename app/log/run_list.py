"""Runs in the order of the log, found by bisection, with holes where one was given up before its turn."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from .run import Run

_SLACK: Final = 64  # free places and holes beyond what is there before they are given back


class RunList:
    __slots__ = ("_count", "_front", "_keys", "_runs")

    def __init__(self) -> None:
        self._runs: list[Run | None] = []
        self._keys: list[int] = []  # of the same places; a hole keeps its key, so that bisection holds
        self._front = 0  # places before it are free; it is no hole while there is a run
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def first(self) -> Run:
        """The oldest. There must be one."""
        run = self._runs[self._front]
        assert run is not None
        return run

    def extend(self, runs: Sequence[Run]) -> None:
        """Add these, oldest first, behind all that are there."""
        for run in runs:
            self._runs.append(run)
            self._keys.append(run.key)
        self._count += len(runs)

    def put(self, key: int, left: Run | None) -> None:
        """What is left of the run with that key, which is there."""
        runs, front = self._runs, self._front
        runs[bisect_left(self._keys, key, front)] = left
        if left is not None:
            return
        self._count -= 1
        while front < len(runs) and runs[front] is None:
            front += 1
        self._front = front
        if len(runs) > 2 * self._count + _SLACK:
            live = [run for run in runs if run is not None]
            self._runs, self._keys, self._front = [*live], [run.key for run in live], 0

    def find(self, seq: int) -> Run | None:
        """The run that has the message; None when it is gone."""
        place = bisect_left(self._keys, seq, self._front)
        run = self._runs[place] if place < len(self._runs) else None
        return run if run is not None and run.has(seq) else None

    def after(self, seq: int) -> Iterator[Run]:
        """Those that have messages behind that place, oldest first. Meanwhile any of them may change."""
        runs = self._runs
        for place in range(bisect_right(self._keys, seq, self._front), len(runs)):
            if (run := runs[place]) is not None and run.seq > seq:
                yield run

    def newest(self) -> Iterator[Run]:
        """Newest first. Meanwhile any of them may change."""
        runs = self._runs
        for place in range(len(runs) - 1, self._front - 1, -1):
            if (run := runs[place]) is not None:
                yield run
