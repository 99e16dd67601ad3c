"""A viewer of the statistics: each sample is written to its sink."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from ..fanout.sink import Sink
from ..limits.stall import StallWatch
from ..telemetry.counters import Counters
from .stats import Stats


class StatsViewer:
    """The caller owns it, calls start() once the sink can take bytes, and detach() at the end."""

    def __init__(
        self, stats: Stats, encode: Callable[[bytes], bytes], sink: Sink, *, loop: AbstractEventLoop,
        stall_timeout: float, counters: Counters, on_leave: Callable[[], None],
    ) -> None:  # fmt: skip
        """`encode` makes the bytes to write of a sample's JSON. `on_leave` is called once."""
        self._stats = stats
        self._encode = encode
        self._sink = sink
        self._loop = loop
        self._on_leave = on_leave
        self._stall = StallWatch(sink, loop, stall_timeout, counters)
        self._timeout: TimerHandle | None = None
        self._paused = False
        self._closed = False

    def start(self) -> None:
        self._stats.watch(self)

    def show(self, sample: bytes) -> None:
        """Write it, unless the socket is full: a viewer that is slow misses samples."""
        if not self._paused:
            self._sink.write(self._encode(sample))

    def end_in(self, seconds: float, reason: str) -> None:
        self._timeout = self._loop.call_later(seconds, self.end, reason)

    def pause(self) -> None:
        """The socket is full. Idempotent."""
        if not (self._paused or self._closed):
            self._paused = True
            self._stall.start()

    def resume(self) -> None:
        """The socket has drained. Idempotent."""
        if self._paused:
            self._paused = False
            self._stall.stop()

    def end(self, reason: str) -> None:
        """Idempotent."""
        if not self._closed:
            self._sink.end(reason)

    def detach(self) -> None:
        """The client has disconnected. Idempotent."""
        self._stall.stop()
        self._stats.unwatch(self)
        if self._timeout is not None:
            self._timeout.cancel()
        if not self._closed:
            self._closed = True
            self._on_leave()
