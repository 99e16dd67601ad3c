"""A socket that takes nothing: it is looked at while its reader is held, and cut off when nothing has moved."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Protocol

from ..telemetry.counters import Counters


class Socket(Protocol):
    def pending(self) -> int:
        """Bytes that were written and not taken yet."""
        ...

    def abort(self) -> None: ...


class StallWatch:
    __slots__ = ("_counts", "_loop", "_pending", "_seconds", "_socket", "_timer")

    def __init__(self, socket: Socket, loop: AbstractEventLoop, seconds: float, counters: Counters) -> None:
        self._socket = socket
        self._loop = loop
        self._seconds = seconds
        self._counts = counters
        self._pending = 0  # what the socket had not taken when it was last looked at
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        self._pending = self._socket.pending()
        self._timer = self._loop.call_later(self._seconds, self._look)

    def stop(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._socket.pending() < self._pending:
            self.start()
        else:
            self._counts.evicted += 1
            self._socket.abort()
