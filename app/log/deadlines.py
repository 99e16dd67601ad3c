"""Deadlines: which keys are due at a given time. Nothing here waits or reads a clock."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, TypeVar

import msgspec

_SLACK = 64  # stale entries that the heap may have before it is rebuilt

K = TypeVar("K", int, str, tuple[str, str])


class Deadlines(msgspec.Struct, Generic[K], gc=False, eq=False):
    """Keys, each with a deadline by the caller's clock.

    A changed or discarded deadline leaves a stale entry in the heap, which is skipped when it comes up. The garbage
    collector does not track it: it is in no reference cycle, and a log has one per group.
    """

    _times: dict[K, float] = msgspec.field(default_factory=dict)
    _heap: list[tuple[float, K]] = msgspec.field(default_factory=list)

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, key: K) -> bool:
        return key in self._times

    def get(self, key: K) -> float | None:
        """The key's deadline; None if it has none."""
        return self._times.get(key)

    def set(self, key: K, time: float) -> None:
        """Set or replace the key's deadline."""
        if self._times.get(key) != time:
            self._times[key] = time
            heappush(self._heap, (time, key))
            self._rebuild_if_stale()

    def discard(self, key: K) -> None:
        if self._times.pop(key, None) is not None:
            self._rebuild_if_stale()

    def next(self) -> float:
        """The earliest deadline; inf if there is none."""
        heap = self._heap
        while heap and self._times.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else inf

    def may_be_due(self, now: float) -> bool:
        """False when nothing is due. Cheap enough to be called often; stale entries can make it True."""
        return bool(self._heap) and self._heap[0][0] <= now

    def due(self, now: float) -> Iterator[K]:
        """Remove, one by one, the keys whose deadline is not after `now`."""
        while self._heap and self._heap[0][0] <= now:  # read anew, since the caller may rebuild it by set() in between
            time, key = heappop(self._heap)
            if self._times.get(key) == time:
                del self._times[key]
                yield key

    def _rebuild_if_stale(self) -> None:
        if len(self._heap) > 2 * len(self._times) + _SLACK:
            self._heap = [(time, key) for key, time in self._times.items()]
            heapify(self._heap)
