"""The ends of a server's streams when it stops: some at a time, since all who are sent away come back elsewhere."""

from asyncio import AbstractEventLoop, Event, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

STEP: Final = 0.1  # seconds
AT_ONCE: Final = 100  # in one step, so 1,000 a second: what one server takes back without delay; a few end at once
DRAIN_SPREAD: Final = 10.0  # seconds that all of them may take: with more than 10,000, more end in a step


class DrainSchedule:
    """Says them at once, or in steps; the first one now, or when what comes before has been done."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._left: deque[Callable[[], None]] = deque()
        self._step = AT_ONCE
        self._late: TimerHandle | None = None  # for what comes before: it has taken too long
        self._over = Event()

    def begin(
        self, drain_schedule: Iterable[Callable[[], None]], spread: float, before: "Future[Any] | None" = None
    ) -> None:
        """All of them, within `spread` seconds; 0 is at once. They wait for `before`, at most half of that time."""
        self._left.extend(drain_schedule)
        if before is None or before.done() or not spread:
            self._set_out(spread)
        else:
            self._late = self._loop.call_later(spread / 2, self._set_out, spread / 2)
        if before is not None:
            before.add_done_callback(partial(self._is_over, self._loop.time() + spread))

    def finish(self) -> None:
        """Say now what has not been said yet. Idempotent."""
        self._set_out(0.0)

    async def wait(self) -> None:
        """Until all have been said."""
        await self._over.wait()

    def _is_over(self, end: float, before: "Future[Any]") -> None:
        if not before.cancelled():
            before.exception()  # seen: however it went
        if self._late is not None:
            self._set_out(max(end - self._loop.time(), STEP))

    def _set_out(self, spread: float) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        steps = int(spread / STEP) or 1
        self._step = max(AT_ONCE if spread else len(self._left), -(-len(self._left) // steps))
        self._say_some()

    def _say_some(self) -> None:
        for _ in range(min(self._step, len(self._left))):
            self._left.popleft()()
        if self._left:
            self._loop.call_later(STEP, self._say_some)
        else:
            self._over.set()
