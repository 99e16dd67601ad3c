"""What an iterator takes from, whichever thread asks."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from .connection import Connection
from .errors import Closed
from .lifetime import Lifetime

T = TypeVar("T")


class Feed(Generic[T]):
    """The items of a source, until it or its connection is closed."""

    def __init__(self, connection: Connection, source: AsyncGenerator[list[T], None]) -> None:
        self._connection = connection
        self._source = source
        self._lifetime = Lifetime()
        self._turn = asyncio.Lock()  # a source can be asked for one thing at a time

    @property
    def closed(self) -> bool:
        return self._lifetime.ended

    async def next(self) -> list[T]:
        """What has come, once there is something; nothing when it has ended."""
        self._connection.feeds.add(self)
        async with self._turn:
            try:
                async with self._connection.lifetime.waiting(), self._lifetime.waiting():
                    return await anext(self._source, [])
            except Closed:
                await self._source.aclose()
                return []

    async def close(self) -> None:
        """Whoever waits for the next item gets none."""
        self._lifetime.end()
        async with self._turn:
            await self._source.aclose()
