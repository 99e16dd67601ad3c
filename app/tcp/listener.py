"""The listening socket of the line port, and the connections that came through it."""

import asyncio
import socket
from asyncio import BaseTransport, Protocol, Transport
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Self, cast

from ..errors import Busy
from ..telemetry.accesslog import AccessLog, address
from ..telemetry.counters import Counters
from .connection import Connection
from .dialects.detect import WORDS

GRACE: Final = 2.0  # seconds that a client has at the end to take its last bytes


class LineListener:
    """`async with LineListener(sock, session, max_clients)`: serves a bound socket, every client with a session of its
    own. At the end nobody new comes in, and who is here gets the answers that are due; who does not take them is cut
    off. What is set on the socket (buffers, keep-alive, user time-out) holds for its connections."""

    def __init__(
        self,
        sock: socket.socket,
        session: Callable[[], Connection],
        max_clients: int,
        backlog: int = 4096,
        *,
        access: AccessLog | None = None,
        counters: Counters | None = None,
        **tls: Any,
    ) -> None:
        """`tls`: what `loop.create_server` needs to speak it."""
        self._sock = sock
        self._session = session
        self._max_clients = max_clients
        self._backlog = backlog
        self._tls = tls
        self._access = access or AccessLog("none", "line")
        self._counts = counters or Counters()
        self._clients: set[Connection] = set()
        self._closing = False
        self._empty = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # telnet's data mark comes as urgent data
        self._server = await loop.create_server(self._accept, sock=self._sock, backlog=self._backlog, **self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._server.close()
        for client in tuple(self._clients):
            client.because("draining")
            client.finish()
        if not await self._emptied():
            for client in tuple(self._clients):
                client.abort()
            await self._emptied()
        await self._server.wait_closed()

    async def _emptied(self) -> bool:
        """Wait until every client is gone; False when some still are after the grace."""
        if not self._clients:
            return True
        self._empty.clear()
        try:
            async with asyncio.timeout(GRACE):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _accept(self) -> Protocol:
        if len(self._clients) >= self._max_clients:
            return self._refuse()
        session = self._session()
        session.owner = self
        return session

    def _refuse(self) -> Protocol:
        return _Refusal(self._one_too_many())

    def _one_too_many(self) -> Busy:
        self._counts.refusals[Busy.code] += 1
        return Busy(f"there are {self._max_clients} clients, as many as this server has room for")

    # What sessions tell their owner

    def opened(self, connection: Connection) -> None:
        full = len(self._clients) >= self._max_clients  # over TLS, others may have shaken hands meanwhile
        self._clients.add(connection)
        self._counts.connections["line"] += 1
        if full:
            connection.write(WORDS.error(self._one_too_many()))
        if full or self._closing:
            connection.finish()

    def closed(self, connection: Connection) -> None:
        self._clients.discard(connection)
        self._counts.connections["line"] -= 1
        self._access.ended(
            "connection ended", connection.why or "client_left", client=address(connection.client),
            token=connection.token, seconds=monotonic() - connection.begun, lines=connection.received,
        )  # fmt: skip
        if not self._clients:
            self._empty.set()


class _Refusal(Protocol):
    """For one client too many: a line that says so, in words since it has not spoken yet, and the end."""

    def __init__(self, error: Busy) -> None:
        self._error = error

    def connection_made(self, transport: BaseTransport) -> None:
        writer = cast(Transport, transport)
        writer.write(WORDS.error(self._error))
        writer.close()
