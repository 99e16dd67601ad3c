"""Meters: how many events there are a second now. Nothing here reads a clock."""

from typing import Final

import msgspec

WINDOW: Final = 10.0  # seconds: short enough to show what happens now, long enough to be steady


class Meter(msgspec.Struct, gc=False):
    """Counts the events of the present window and of the one before. Both together give the rate."""

    _begin: float = 0.0
    _count: int = 0
    _before: int = 0

    def add(self, count: int, now: float) -> None:
        if now - self._begin >= WINDOW:
            self._turn(now)
        self._count += count

    def rate(self, now: float) -> float:
        """Events a second over the last WINDOW, assuming that the previous window's events were spread evenly."""
        if now - self._begin >= WINDOW:
            self._turn(now)
        overlap = self._before * (1 - (now - self._begin) / WINDOW)
        return round((overlap + self._count) / WINDOW, 3)

    def _turn(self, now: float) -> None:
        """Begin a new window."""
        self._before = self._count if now - self._begin < 2 * WINDOW else 0
        self._begin, self._count = now - (now - self._begin) % WINDOW, 0
