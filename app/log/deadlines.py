"""Deadlines: which keys are due by now. Time is asked for, never waited for; a key given up costs nothing later."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

_SLACK = 64  # given-up entries that may stay in the heap before it is rebuilt

K = TypeVar("K", int, str, tuple[str, str])


class Deadlines(Generic[K]):
    """Keys with a deadline each, on the caller's clock."""

    def __init__(self) -> None:
        self._times: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self._times)

    def set(self, key: K, time: float) -> None:
        """Give the key this deadline, in place of any other."""
        if self._times.get(key) != time:
            self._times[key] = time
            heappush(self._heap, (time, key))
            self._rebuild_if_stale()

    def discard(self, key: K) -> None:
        if self._times.pop(key, None) is not None:
            self._rebuild_if_stale()

    def next(self) -> float | None:
        """The earliest deadline; None when there is none."""
        heap = self._heap
        while heap and self._times.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def may_be_due(self, now: float) -> bool:
        """False when nothing is: a cheap question, to be asked often."""
        return bool(self._heap) and self._heap[0][0] <= now

    def due(self, now: float) -> Iterator[K]:
        """Give up, one by one, the keys whose deadline is not after `now`."""
        while self._heap and self._heap[0][0] <= now:  # may be another heap: whoever is given a key may set() more
            time, key = heappop(self._heap)
            if self._times.get(key) == time:
                del self._times[key]
                yield key

    def _rebuild_if_stale(self) -> None:
        if len(self._heap) > 2 * len(self._times) + _SLACK:
            self._heap = [(time, key) for key, time in self._times.items()]
            heapify(self._heap)
