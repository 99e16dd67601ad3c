"""The lifetime of a client or an iterator, which ends all that waits in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from .errors import Closed


class Lifetime:
    """When it ends, every block in `waiting` ends at once. It belongs to one event loop."""

    def __init__(self) -> None:
        self.ended = False
        self._waiting: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Raises Closed when the lifetime ends, or if it has ended."""
        if self.ended:
            raise Closed
        try:
            async with asyncio.timeout(None) as scope:
                self._waiting.add(scope)
                try:
                    yield
                finally:
                    self._waiting.discard(scope)
        except TimeoutError:
            if not scope.expired():  # another timeout's
                raise
            raise Closed from None

    def end(self) -> None:
        self.ended = True
        for scope in self._waiting:
            with suppress(RuntimeError):  # the scope has expired already
                scope.reschedule(0)
