"""The log's clock. It never goes back; the wall clock does when somebody sets it.

Durations (leases, delays, ttls, ages) are measured on the log's clock. It is monotonic while the process runs. From one
process to the next it advances by the machine's uptime, or after a boot by the wall clock, since nothing else is known
then. Times of day that are shown and stored follow the wall clock.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ..log.message_clock import Moment

MIN_STEP: Final = 0.01  # seconds: smaller differences between two readings of the clocks are ignored

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")  # Linux only; elsewhere boots cannot be told apart


class Uptime(msgspec.Struct, frozen=True):
    """The id of the machine's boot, and the seconds since then, suspension included."""

    boot: str
    seconds: float


class Clock:
    """The machine's clocks."""

    wall: Callable[[], float] = staticmethod(time.time)
    """The time of day in Unix seconds. It may step in both directions."""

    steady: Callable[[], float] = staticmethod(time.monotonic)
    """Monotonic seconds within this process."""

    def __init__(self) -> None:
        self._boot = ""
        with suppress(OSError):
            self._boot = _BOOT.read_text().strip()

    def uptime(self) -> Uptime | None:
        """None if it is unknown."""
        return Uptime(self._boot, time.clock_gettime(time.CLOCK_BOOTTIME)) if self._boot else None


class LogClock:
    """The clock of one log. `ahead`: how many seconds the wall clock is ahead of it."""

    def __init__(self, clock: Clock, mark: Moment | None = None, least: float = 0.0) -> None:
        """`mark`: the clocks at the end of the last process. Without one the clock starts at the wall clock's time, but
        not before `least`."""
        self._wall, self._steady, self._uptime = clock.wall, clock.steady, clock.uptime
        begin = _resumed(clock, mark) if mark else max(clock.wall(), least)
        self._offset = begin - clock.steady()
        self.ahead = 0.0
        self.read()

    def now(self) -> float:
        return self._steady() + self._offset

    def read(self) -> float:
        """The time now. It also updates `ahead`."""
        steady, wall = self._steady, self._wall  # calls of attributes of an instance are slow
        now = steady() + self._offset
        ahead = wall() - now
        if not -MIN_STEP <= ahead - self.ahead <= MIN_STEP:
            self.ahead = ahead
        return now

    def moment(self) -> Moment:
        """The clocks now, for the next process."""
        uptime = self._uptime() or Uptime("", 0.0)
        return Moment(self.now(), self._wall(), uptime.boot, uptime.seconds)


def _resumed(clock: Clock, mark: Moment) -> float:
    """The log's time at the start of this process."""
    uptime = clock.uptime()
    if uptime is not None and uptime.boot == mark.boot and uptime.seconds >= mark.uptime:
        return mark.now + uptime.seconds - mark.uptime
    return mark.now + max(clock.wall() - mark.wall, 0.0)
