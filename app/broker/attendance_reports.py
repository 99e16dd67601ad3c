"""Reports of who listens at this server, for the other servers of the same log."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final

from ..consumers.registry import ConsumerRegistry
from ..fanout.fanout import Fanout
from ..messages.attendance import attendance
from ..storage.engine import Engine

INTERVAL: Final = 1.0  # seconds: a report costs each server some work


class AttendanceReports:
    def __init__(self, engine: Engine, fanout: Fanout, consumers: ConsumerRegistry, loop: AbstractEventLoop) -> None:
        self._engine = engine
        self._fanout = fanout
        self._consumers = consumers
        self._loop = loop
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        if self._engine.is_shared:
            self._timer = self._loop.call_later(INTERVAL, self.start)
            self._engine.attend(attendance(self._fanout.subscriptions(), self._consumers.counts))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
