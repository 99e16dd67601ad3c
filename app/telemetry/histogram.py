"""A histogram of durations. Adding a value costs two additions and a binary search."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from typing import Final

SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class Histogram:
    """`bounds` are in seconds and ascending; one more bucket counts longer durations."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.sum = 0.0  # seconds
        self._bounds = (*bounds, inf)
        self._counts = [0] * len(self._bounds)

    def add(self, seconds: float) -> None:
        self.sum += seconds
        self._counts[bisect_left(self._bounds, seconds)] += 1

    def buckets(self) -> list[tuple[float, int]]:
        """For each bound, the number of durations up to it (cumulative, as Prometheus expects)."""
        return [*zip(self._bounds, accumulate(self._counts), strict=True)]
