"""The client of the HTTP API: it publishes each message once, and its subscriptions continue after a reconnect.

Its methods are in the modules beside this one, by subject.

It depends on the wire format and on none of the server's code, so it works with an older or newer server too.
"""

import logging
from collections.abc import Callable
from os import PathLike
from types import TracebackType
from typing import Final, Self

from ..connection import Connection
from ..runners import AsyncRunner
from .access import AsyncAccess
from .groups import AsyncGroups
from .publishing import AsyncPublishing
from .scheduled import AsyncScheduled
from .server import AsyncServer
from .subscribing import AsyncSubscribing
from .topics import AsyncTopics
from .working import AsyncWorking

_log: Final = logging.getLogger("plainmq.client")


class AsyncClient(
    AsyncPublishing,
    AsyncScheduled,
    AsyncSubscribing,
    AsyncWorking,
    AsyncTopics,
    AsyncGroups,
    AsyncServer,
    AsyncAccess,
):
    """A client of one server.

        async with AsyncClient("http://localhost:8000") as client:
            await client.publish("rooms.kitchen", "hello")
            async for message in client.subscribe("rooms.*", since="10m"):
                print(message.topic, message.data)

    `token`: its rights apply. `ca`: a file of certificates (PEM) to trust instead of those of the system. `retry_for`:
    seconds for which a request without an answer is sent again; a publish then has the same Idempotency-Key, which the
    server remembers for two minutes. `timeout`: seconds for one request and its answer, and the longest silence of a
    stream: more than the server's keep-alive, which is 15. `tell` gets a sentence when the server cannot be reached and
    will be tried again, or when a lease was over too early; without it, that is a warning of the logger
    `plainmq.client`.

    A duration is a text such as `30s`, a number of seconds, or a timedelta. A position (`since`) is an id, `latest`,
    `earliest`, `last:10`, a duration such as `10m`, or a time: RFC 3339, or a datetime with its zone.

    Raises ValueError for an invalid URL or token, or a file without certificates. Every method raises RequestRefused,
    Unreachable, Untrusted or Closed, which are all ClientError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        ca: str | PathLike[str] | None = None,
        retry_for: float = 10.0,
        timeout: float = 60.0,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self._connection = Connection(url, token=token, ca=ca, retry_for=retry_for, timeout=timeout, tell=tell)
        self._runner = AsyncRunner(self._connection.close)
        self.url = self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client: iterators end, and calls that wait raise Closed."""
        await self._runner.end()
