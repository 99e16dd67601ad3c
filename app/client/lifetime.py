"""What waits, until it is closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from .errors import Closed


class Lifetime:
    """Ends whatever waits within it when it ends, at once. It belongs to one event loop."""

    def __init__(self) -> None:
        self.ended = False
        self._waiting: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Raises Closed when it ends, or has ended."""
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
            if not scope.expired():  # another's
                raise
            raise Closed from None

    def end(self) -> None:
        self.ended = True
        for scope in self._waiting:
            with suppress(RuntimeError):  # it was ended before
                scope.reschedule(0)
