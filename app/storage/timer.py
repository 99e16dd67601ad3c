"""A timer for the earliest of all deadlines of a log."""

from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable
from math import inf
from random import uniform
from typing import Final

MAX_TIMER: Final = 86_400.0  # seconds: event loops cannot schedule the longest delays that a client may ask for


class DeadlineTimer:
    """A timer that fires early does no harm: whoever it calls sets it again."""

    def __init__(self, now: Callable[[], float], on_due: Callable[[], None], spread: float = 0.0) -> None:
        """`now`: the log's clock. `spread`: it fires up to so many seconds late, at random."""
        self._now = now
        self._on_due = on_due
        self._spread = spread
        self._handle: TimerHandle | None = None
        self.ends = inf  # when the timer fires, on the log's clock

    def set(self, deadline: float) -> None:
        """Fire at the deadline, or before."""
        if deadline < self.ends:
            self.stop()
            self.ends = deadline
            wait = min(max(deadline - self._now(), 0.0), MAX_TIMER)
            self._handle = get_running_loop().call_later(wait + uniform(0.0, self._spread), self._fire)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.ends = inf

    def _fire(self) -> None:
        self.ends = inf
        self._on_due()
