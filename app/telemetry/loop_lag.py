"""The lag of the event loop: how late a timer of one second fires. A stall is logged."""

from asyncio import AbstractEventLoop, TimerHandle
from logging import WARNING
from time import monotonic
from typing import Final

from .histogram import Histogram
from .log import log_event

BEAT: Final = 1.0  # seconds
STALL: Final = 0.5  # seconds late from which on the lag is logged: clients notice it too


class LoopLag:
    """Measures from start() until stop()."""

    def __init__(self) -> None:
        self.delays = Histogram()
        self.latest = 0.0  # seconds, of the last beat

    def start(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._await_beat()

    def stop(self) -> None:
        self._timer.cancel()

    def _await_beat(self) -> None:
        self._due = monotonic() + BEAT
        self._timer: TimerHandle = self._loop.call_later(BEAT, self._beat)

    def _beat(self) -> None:
        delay = max(monotonic() - self._due, 0.0)
        self.delays.add(delay)
        self.latest = delay
        if delay > STALL:
            log_event("the event loop stalled", WARNING, seconds=delay)
        self._await_beat()
