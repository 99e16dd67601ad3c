"""How the methods of a client ask the server."""

from functools import partial
from typing import Any, TypeVar

from ..connection import Connection
from ..runners import AsyncRunner

T = TypeVar("T")


class AsyncCaller:
    """The part of a client that all its methods share."""

    _connection: Connection
    _runner: AsyncRunner

    async def _read(self, kind: type[T], method: str, path: str, **request: Any) -> T:
        """Send a request until it is answered, and decode its answer."""
        return await self._runner.run(partial(self._connection.read, kind, method, path, **request))

    async def _insist(self, method: str, path: str, **request: Any) -> None:
        """Send a request until it is answered."""
        await self._runner.run(partial(self._connection.insist, method, path, **request))
