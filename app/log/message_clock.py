"""The time of new messages: that of the wall clock, but never earlier than the time of a retained message."""

from typing import Final

import msgspec

from .changes import OnChange
from .store import LogMessages

CHECK_INTERVAL: Final = 1.0  # seconds; while the wall clock is behind the newest message, look it up again so often


class Moment(msgspec.Struct, frozen=True):
    """One moment by several clocks: the log's own, the wall clock, and the uptime in seconds of a boot of the
    machine."""

    now: float
    wall: float
    boot: str
    uptime: float


class ClockRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields are those of MessageClock."""

    ahead: float
    newest_time: float
    next_check: float


class MessageClock:
    """`ahead`: seconds that the wall clock is ahead of the log's clock. `moment`: the newest one that the engine has
    set."""

    __slots__ = ("_messages", "_newest_time", "_next_check", "_on_change", "ahead", "moment")

    def __init__(self, messages: LogMessages, on_change: OnChange) -> None:
        self.ahead = 0.0
        self.moment: Moment | None = None
        self._messages = messages
        self._on_change = on_change
        self._newest_time = 0.0  # of the retained messages
        self._next_check = 0.0  # when to look that message up again

    @property
    def record(self) -> ClockRecord:
        return ClockRecord(self.ahead, self._newest_time, self._next_check)

    @record.setter
    def record(self, record: ClockRecord) -> None:
        self.ahead, self._newest_time, self._next_check = record.ahead, record.newest_time, record.next_check

    def restore(self, moment: Moment | None) -> None:
        """The messages must be there."""
        self.moment = moment
        self._newest_time = self._kept_time()

    def set(self, ahead: float, moment: Moment | None = None) -> None:
        """`moment` is stored with the next change."""
        if ahead != self.ahead:
            self.ahead = ahead
            self._on_change("log", ())
        self.moment = moment

    def time(self, now: float) -> float:
        """`now`: by the log's clock."""
        time = now + self.ahead
        if time < self._newest_time:
            if now >= self._next_check:
                self._next_check = now + CHECK_INTERVAL
                self._newest_time = self._kept_time()
            time = max(time, self._newest_time)
        self._newest_time = time
        return time

    def _kept_time(self) -> float:
        newest = next(self._messages.newest(), None)
        return 0.0 if newest is None else newest.time
