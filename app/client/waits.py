"""When a client tries again: waits that grow, and a patience that ends."""

from asyncio import sleep
from collections.abc import Callable
from math import inf
from random import uniform
from typing import Final

from .errors import ClientError, Unreachable

FIRST_WAIT: Final = 1.0  # seconds before coming back, until the server says `retry:`
LONGEST_WAIT: Final = 10.0  # seconds between two attempts, unless the server asks for more
LONGEST_RETRY: Final = 60.0  # seconds: the most that a server may ask for


class Waits:
    """How long to wait before the next attempt, and when to give up (`patience` seconds; None: never)."""

    def __init__(self, patience: float | None, clock: Callable[[], float]) -> None:
        self.base = FIRST_WAIT
        self._patience = patience
        self._clock = clock
        self._failures = 0
        self._since: float | None = None  # the start of the outage
        self._healthy = False

    def ask(self, milliseconds: int) -> None:
        """The server's `retry:`."""
        self.base = min(max(milliseconds / 1000, 0.0), LONGEST_RETRY)

    def heard(self) -> None:
        """The server answered as it should: an outage is over."""
        self._failures, self._since, self._healthy = 0, None, True

    def failed(self, error: ClientError) -> bool:
        """Whether this is the first failure of an outage. Raises the error when patience is at its end. That a stream
        ends is no failure; that it cannot be had anew is one. A request that was given up because its time was over
        has used its time up from the patience."""
        if self._since is None:
            self._since = self._clock() - (error.waited if isinstance(error, Unreachable) else 0.0)
        was_healthy, self._healthy = self._healthy, False
        if was_healthy:
            return False
        self._failures += 1
        if self._left() <= 0:
            raise error
        return self._failures == 1

    async def rest(self) -> None:
        """Until the next attempt."""
        await sleep(self.next())

    def next(self) -> float:
        """Seconds: not less than the server asked for, unless patience ends before; longer after each failure; and
        different for each client."""
        doubled = self.base * 2.0 ** min(max(self._failures - 1, 0), 10)
        return min(max(self.base, min(doubled, LONGEST_WAIT)) * uniform(1.0, 1.25), self._left())

    def _left(self) -> float:
        """Seconds of patience."""
        if self._patience is None or self._since is None:
            return inf
        return max(self._since + self._patience - self._clock(), 0.0)
