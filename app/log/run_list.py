"""Runs in the order of the log, searched by bisection. A run that is removed from the middle leaves a hole."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

import msgspec

from .run import Run

_SLACK: Final = 64  # entries without a run, beyond the number of runs, before the list is rebuilt


class RunList(msgspec.Struct, gc=False, eq=False):
    """The garbage collector does not track it: it is in no reference cycle, and a log has one per topic."""

    _runs: list[Run | None] = msgspec.field(default_factory=list)
    _keys: "array[int]" = msgspec.field(default_factory=lambda: array("q"))  # a hole keeps its key, for the bisection
    _front: int = 0  # index of the first run; the entries before it are holes
    _holes: int = 0
    _version: int = 0  # higher whenever entries get other places

    def __len__(self) -> int:
        return len(self._runs) - self._holes

    @property
    def first(self) -> Run:
        """The oldest run. The list must not be empty."""
        run = self._runs[self._front]
        assert run is not None
        return run

    def append(self, run: Run) -> None:
        """Append a newer run."""
        self._runs.append(run)
        self._keys.append(run.key)

    def put(self, key: int, left: Run | None) -> None:
        """Replace the run with that key, which must exist, by what is left of it; None removes it."""
        runs, front = self._runs, self._front
        runs[bisect_left(self._keys, key, front)] = left
        if left is not None:
            return
        self._holes += 1
        while front < len(runs) and runs[front] is None:
            front += 1
        self._front = front
        if 2 * self._holes > len(runs) + _SLACK:
            self._drop_holes()

    def _drop_holes(self) -> None:
        # Most holes are at the front. Removing them moves memory and looks at no run: it is quick for any number.
        del self._runs[: self._front], self._keys[: self._front]
        self._holes -= self._front
        if 2 * self._holes > len(self._runs) + _SLACK:
            self._runs = [run for run in self._runs if run is not None]
            self._keys = array("q", [run.key for run in self._runs if run is not None])
            self._holes = 0
        self._front, self._version = 0, self._version + 1

    def find(self, seq: int) -> Run | None:
        """The run that has the message; None when it was removed."""
        index = bisect_left(self._keys, seq, self._front)
        run = self._runs[index] if index < len(self._runs) else None
        return run if run is not None and run.has(seq) else None

    def after(self, seq: int) -> Iterator[Run]:
        """The runs with messages after that seq, oldest first. Runs may change during the iteration."""
        index, end, version = bisect_right(self._keys, seq, self._front), len(self._runs), self._version
        last = self._keys[-1] if end else seq
        while index < end:
            run = self._runs[index]
            index += 1
            if run is not None and run.seq > seq:
                yield run
                if version != self._version:
                    index, version = bisect_right(self._keys, run.key, self._front), self._version
                    end = bisect_right(self._keys, last, self._front)

    def newest(self) -> Iterator[Run]:
        """The runs, newest first. Runs may change during the iteration."""
        index, version = len(self._runs) - 1, self._version
        while index >= self._front:
            run = self._runs[index]
            index -= 1
            if run is not None:
                yield run
                if version != self._version:
                    index, version = bisect_left(self._keys, run.key, self._front) - 1, self._version
