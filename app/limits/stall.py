"""Detection of stalled sockets: a paused subscriber is disconnected when its client has read nothing for a while."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final, Protocol

from ..telemetry.counters import Counters

# A check that comes so much later than it was due, as a part of the time, says that the event loop was blocked or the
# process stopped: the client may have had no chance to read, and its socket is watched for the whole time again.
_LATE: Final = 0.25


class Socket(Protocol):
    def pending(self) -> int:
        """Bytes that were written and that the peer has not received yet."""
        ...

    def abort(self) -> None: ...


class StallWatch:
    """Aborts the socket if `pending()` has not fallen after `seconds`; otherwise waits as long again."""

    __slots__ = ("_counters", "_due", "_loop", "_pending", "_seconds", "_socket", "_timer")

    def __init__(self, socket: Socket, loop: AbstractEventLoop, seconds: float, counters: Counters) -> None:
        self._socket = socket
        self._loop = loop
        self._seconds = seconds
        self._counters = counters
        self._pending = 0  # bytes, at the last check
        self._due = 0.0  # of the loop's clock
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        self._pending = self._socket.pending()
        self._due = self._loop.time() + self._seconds
        self._timer = self._loop.call_later(self._seconds, self._check)

    def stop(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        late = self._loop.time() > self._due + _LATE * self._seconds
        if late or self._socket.pending() < self._pending:
            self.start()
        else:
            self._counters.evicted += 1
            self._socket.abort()
