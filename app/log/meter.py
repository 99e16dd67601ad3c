"""Meters: how many events there are a second now. Nothing here reads a clock."""

from typing import Final

import msgspec

WINDOW: Final = 10.0  # seconds: short enough to show what happens now, long enough to be steady


class Meter(msgspec.Struct, gc=False):
    """Follows a total that only grows, over the present window and the one before. Both together give the rate.

    Whoever adds to the total calls turn() before, if `end` is reached.
    """

    end: float = 0.0  # of the present window
    _total: int = 0  # at its beginning
    _before: int = 0  # events of the window before it

    def turn(self, now: float, total: int) -> None:
        """The present window has ended: begin a new one."""
        self._before = total - self._total if now < self.end + WINDOW else 0
        self._total, self.end = total, now + WINDOW - (now - self.end) % WINDOW

    def rate(self, now: float, total: int) -> float:
        """Events a second over the last WINDOW, assuming that the previous window's events were spread evenly."""
        if now >= self.end:
            self.turn(now, total)
        overlap = self._before * (self.end - now) / WINDOW
        return round((overlap + total - self._total) / WINDOW, 3)
