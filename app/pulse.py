"""How late the event loop is: a timer of one second, and how long after its time it came."""

from asyncio import AbstractEventLoop, TimerHandle
from bisect import bisect_left
from itertools import accumulate
from math import inf
from time import monotonic
from typing import Final

BEAT: Final = 1.0
BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, inf)  # seconds


class Pulse:
    """Starts at once; stop() it."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.delay = 0.0  # seconds, all beats together
        self.latest = 0.0  # seconds, of the last beat
        self._loop = loop
        self._counts = [0] * len(BOUNDS)
        self._start()

    def stop(self) -> None:
        self._timer.cancel()

    def histogram(self) -> list[tuple[float, int]]:
        """How many beats were at most so late, for each bound."""
        return [*zip(BOUNDS, accumulate(self._counts), strict=True)]

    def _start(self) -> None:
        self._due = monotonic() + BEAT
        self._timer: TimerHandle = self._loop.call_later(BEAT, self._beat)

    def _beat(self) -> None:
        delay = max(monotonic() - self._due, 0.0)
        self.delay += delay
        self.latest = delay
        self._counts[bisect_left(BOUNDS, delay)] += 1
        self._start()
