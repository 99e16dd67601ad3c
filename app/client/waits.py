"""The retries of a client: waits that grow, and a time after which it gives up."""

from asyncio import sleep
from collections.abc import Callable
from math import inf
from random import uniform
from typing import Final

from .errors import ClientError, Unreachable

FIRST_WAIT: Final = 1.0  # seconds before the first retry, unless the server sends `retry:`
MAX_WAIT: Final = 10.0  # seconds between two attempts, unless the server asks for more
MAX_RETRY: Final = 60.0  # seconds: the longest wait that a server may ask for


class Waits:
    """Computes the waits between attempts. It gives up after `retry_for` seconds without contact (None: never)."""

    def __init__(self, retry_for: float | None, clock: Callable[[], float]) -> None:
        self.base = FIRST_WAIT
        self._retry_for = retry_for
        self._clock = clock
        self._failures = 0
        self._since: float | None = None  # the start of the outage
        self._healthy = False

    def ask(self, milliseconds: int) -> None:
        """The server's `retry:`."""
        self.base = min(max(milliseconds / 1000, 0.0), MAX_RETRY)

    def heard(self) -> None:
        """The server has answered: an outage is over."""
        self._failures, self._since, self._healthy = 0, None, True

    def failed(self, error: ClientError) -> bool:
        """Count a failure. Returns True for the first one of an outage. Raises the error when it is time to give up.

        The end of a healthy stream does not count; a failed reconnect does. The time that a request has waited for its
        answer counts as time without contact.
        """
        if self._since is None:
            self._since = self._clock() - (error.waited if isinstance(error, Unreachable) else 0.0)
        was_healthy, self._healthy = self._healthy, False
        if was_healthy:
            return False
        self._failures += 1
        if self._left() <= 0:
            raise error
        return self._failures == 1

    async def pause(self) -> None:
        """Wait until the next attempt."""
        await sleep(self.next())

    def next(self) -> float:
        """The seconds to wait: longer after each failure, at least what the server asked for, and different for each
        client; but not beyond the time to give up."""
        doubled = self.base * 2.0 ** min(max(self._failures - 1, 0), 10)
        return min(max(self.base, min(doubled, MAX_WAIT)) * uniform(1.0, 1.25), self._left())

    def _left(self) -> float:
        """Seconds until it gives up."""
        if self._retry_for is None or self._since is None:
            return inf
        return max(self._since + self._retry_for - self._clock(), 0.0)
