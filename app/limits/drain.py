"""The drain of a stopping server: it ends its streams in steps, since all clients reconnect to another server."""

from asyncio import AbstractEventLoop, Event, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

STEP: Final = 0.1  # seconds
STEP_STREAMS: Final = 100  # so 1,000 a second: what one server takes back without delay; a few end at once
DRAIN_SPREAD: Final = 10.0  # seconds for all streams: above 10,000 streams, more end in each step


class DrainSchedule:
    """Calls the functions that end the streams: at once or in steps, and, given `before`, after that is done."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._left: deque[Callable[[], None]] = deque()
        self._step = STEP_STREAMS
        self._late: TimerHandle | None = None  # begins the drain if `before` takes too long
        self._over = Event()

    def begin(self, ends: Iterable[Callable[[], None]], spread: float, before: "Future[Any] | None" = None) -> None:
        """Call all of `ends` within `spread` seconds; 0 is at once. They wait for `before`, at most half that time."""
        self._left.extend(ends)
        if before is None or before.done() or not spread:
            self._start(spread)
        else:
            self._late = self._loop.call_later(spread / 2, self._start, spread / 2)
        if before is not None:
            before.add_done_callback(partial(self._is_over, self._loop.time() + spread))

    def finish(self) -> None:
        """End the remaining streams now. Idempotent."""
        self._start(0.0)

    async def wait(self) -> None:
        """Wait until all streams have been ended."""
        await self._over.wait()

    def _is_over(self, end: float, before: "Future[Any]") -> None:
        if not before.cancelled():
            before.exception()  # marks it as retrieved, or asyncio logs it
        if self._late is not None:
            self._start(max(end - self._loop.time(), STEP))

    def _start(self, spread: float) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        steps = int(spread / STEP) or 1
        self._step = max(STEP_STREAMS if spread else len(self._left), -(-len(self._left) // steps))
        self._end_some()

    def _end_some(self) -> None:
        for _ in range(min(self._step, len(self._left))):
            self._left.popleft()()
        if self._left:
            self._loop.call_later(STEP, self._end_some)
        else:
            self._over.set()
