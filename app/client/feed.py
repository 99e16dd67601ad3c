"""The source of an iterator, for asyncio and threads."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from .connection import Connection
from .errors import Closed
from .lifetime import Lifetime

T = TypeVar("T")


class Feed(Generic[T]):
    """The items of a source, until the feed or its connection is closed."""

    def __init__(self, connection: Connection, source: AsyncGenerator[list[T], None]) -> None:
        self._connection = connection
        self._source = source
        self._lifetime = Lifetime()
        self._lock = asyncio.Lock()  # an async generator runs one call at a time

    @property
    def closed(self) -> bool:
        return self._lifetime.ended

    async def next(self) -> list[T]:
        """Wait for items, and return all that have arrived; an empty list at the end."""
        self._connection.feeds.add(self)
        async with self._lock:
            try:
                async with self._connection.lifetime.waiting(), self._lifetime.waiting():
                    return await anext(self._source, [])
            except Closed:
                await self._source.aclose()
                return []

    async def close(self) -> None:
        """End the feed: a call of `next` that waits returns an empty list."""
        self._lifetime.end()
        async with self._lock:
            await self._source.aclose()
