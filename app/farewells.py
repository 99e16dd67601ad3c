"""The ends of a server's streams when it stops: some at a time, since all who are sent away come back elsewhere."""

from asyncio import AbstractEventLoop, Event
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

STEP: Final = 0.1  # seconds
AT_ONCE: Final = 100  # in one step, so 1,000 a second: what one server takes back without delay; a few end at once
SPREAD: Final = 10.0  # seconds that all of them may take: with more than 10,000, more end in a step


class Farewells:
    """Says them at once, or in steps; the first one now."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._left: deque[Callable[[], None]] = deque()
        self._step = AT_ONCE
        self._over = Event()

    def begin(self, farewells: Iterable[Callable[[], None]], spread: float) -> None:
        """All of them, within `spread` seconds; 0 is at once."""
        self._left.extend(farewells)
        steps = int(spread / STEP) or 1
        self._step = max(AT_ONCE if spread else len(self._left), -(-len(self._left) // steps))
        self._say_some()

    def finish(self) -> None:
        """Say now what has not been said yet. Idempotent."""
        self._step = len(self._left)
        self._say_some()

    async def wait(self) -> None:
        """Until all have been said."""
        await self._over.wait()

    def _say_some(self) -> None:
        for _ in range(min(self._step, len(self._left))):
            self._left.popleft()()
        if self._left:
            self._loop.call_later(STEP, self._say_some)
        else:
            self._over.set()
