"""How often something took how long, in buckets: what it costs is an addition or two."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from typing import Final

SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class Histogram:
    """`bounds` in seconds, rising; there is one more bucket for what is beyond them."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.sum = 0.0  # seconds, of all
        self._bounds = (*bounds, inf)
        self._counts = [0] * len(self._bounds)

    def add(self, seconds: float) -> None:
        self.sum += seconds
        self._counts[bisect_left(self._bounds, seconds)] += 1

    def buckets(self) -> list[tuple[float, int]]:
        """How many took at most so long, for each bound."""
        return [*zip(self._bounds, accumulate(self._counts), strict=True)]
