"""Time, for a log: its own, which only goes on, and that of the wall clock, which people set.

How long something lasts (a lease, a delay, a ttl, an age) is counted on the log's own clock. It is monotonic while the
process runs; from one life of the process to the next it goes on by the machine's uptime, or after a boot by the wall
clock, which is all there is then. What is shown and written down as a time of day follows the wall clock.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ..log.log import Moment

STEP: Final = 0.01  # seconds that the wall clock may seem to go wrong between two readings: less is not shown

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")  # of Linux; elsewhere one boot is not known from another


class Uptime(msgspec.Struct, frozen=True):
    """Which boot of the machine this is, and the seconds since, those included that it was suspended."""

    boot: str
    seconds: float


class Clock:
    """The machine's clocks."""

    wall: Callable[[], float] = staticmethod(time.time)
    """The time of day in Unix seconds. It may step, both ways."""

    steady: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds since some moment. It only goes on, while the process lives."""

    def __init__(self) -> None:
        self._boot = ""
        with suppress(OSError):
            self._boot = _BOOT.read_text().strip()

    def uptime(self) -> Uptime | None:
        """None when it is not known."""
        return Uptime(self._boot, time.clock_gettime(time.CLOCK_BOOTTIME)) if self._boot else None


class LogClock:
    """A log's own clock, and how many seconds the wall clock is `ahead` of it."""

    def __init__(self, clock: Clock, mark: Moment | None = None, least: float = 0.0) -> None:
        """`mark`: how things were in the last life; without one it is at the wall clock's time now, and at `least`."""
        self._wall, self._steady, self._uptime = clock.wall, clock.steady, clock.uptime
        begin = _resumed(clock, mark) if mark else max(clock.wall(), least)
        self._offset = begin - clock.steady()
        self.ahead = 0.0
        self.look()

    def now(self) -> float:
        return self._steady() + self._offset

    def look(self) -> float:
        """The time now; it also looks at the wall clock."""
        now = self._steady() + self._offset
        ahead = self._wall() - now
        if not -STEP <= ahead - self.ahead <= STEP:
            self.ahead = ahead
        return now

    def moment(self) -> Moment:
        """How things are, for the next life."""
        uptime = self._uptime() or Uptime("", 0.0)
        return Moment(self.now(), self._wall(), uptime.boot, uptime.seconds)


def _resumed(clock: Clock, mark: Moment) -> float:
    """The log's own time now."""
    uptime = clock.uptime()
    if uptime is not None and uptime.boot == mark.boot and uptime.seconds >= mark.uptime:
        return mark.now + uptime.seconds - mark.uptime
    return mark.now + max(clock.wall() - mark.wall, 0.0)
