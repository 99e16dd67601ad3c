"""The listener of the line port: a listening socket, and the connections that it accepted."""

import asyncio
import socket
from asyncio import BaseTransport, Protocol, Transport
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, Self, cast

from ..errors import Busy
from ..net.listeners import Listeners
from ..telemetry.accesslog import AccessLog, address
from ..telemetry.counters import Counters
from .connection import Connection
from .dialects.detect import TEXT

CLOSE_TIMEOUT: Final = 2.0  # seconds for clients to receive their last bytes when the server stops


class LineListener:
    """`async with LineListener([sock], connect, max_clients)` serves a bound socket; of several, the one at `place`.
    `connect` makes the connection of each client. On exit, no client is accepted any more, pending replies are sent,
    and clients that do not receive them are cut off. Options of the socket (buffers, keep-alive, user time-out) hold
    for its connections."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        connect: Callable[[], Connection],
        max_clients: int,
        *,
        place: int = 0,
        access: AccessLog | None = None,
        counters: Counters | None = None,
        **tls: Any,
    ) -> None:
        """`tls`: the arguments of `loop.create_server` for TLS."""
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # telnet's data mark comes as urgent data
        self.listeners = Listeners(sockets, self._accept, **tls)
        self.sock = sockets[place]
        self._place = place
        self._connect = connect
        self._max_clients = max_clients
        self._access = access or AccessLog("none", "line")
        self._counters = counters or Counters()
        self._connections: set[Connection] = set()
        self._closing = False
        self._empty = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.listeners.accept_from(self._place)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self.listeners.close()
        for connection in tuple(self._connections):
            connection.set_end_reason("draining")
            connection.finish()
        if not await self._all_closed():
            for connection in tuple(self._connections):
                connection.abort()
            await self._all_closed()
        await self.listeners.wait_closed()

    async def _all_closed(self) -> bool:
        """Wait until all connections are closed. False: some are still open after CLOSE_TIMEOUT."""
        if not self._connections:
            return True
        self._empty.clear()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _accept(self) -> Protocol:
        if len(self._connections) >= self._max_clients:
            return _Refusal(self._too_many_clients())
        connection = self._connect()
        connection.owner = self
        return connection

    def _too_many_clients(self) -> Busy:
        self._counters.refusals[Busy.code] += 1
        return Busy(f"there are {self._max_clients} clients, as many as this server has room for")

    # Called by connections

    def opened(self, connection: Connection) -> None:
        full = len(self._connections) >= self._max_clients  # over TLS, other handshakes may have finished meanwhile
        self._connections.add(connection)
        self._counters.connections["line"] += 1
        if full:
            connection.write(TEXT.error(self._too_many_clients()))
        if full or self._closing:
            connection.finish()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._counters.connections["line"] -= 1
        self._access.ended(
            "connection ended",
            connection.end_reason or "client_left",
            client=address(connection.client),
            token=connection.token,
            seconds=monotonic() - connection.started,
            lines=connection.lines_received,
        )
        if not self._connections:
            self._empty.set()


class _Refusal(Protocol):
    """The connection of a client that is one too many: an error line, then it closes. The line is text, because the
    client's dialect is not known yet."""

    def __init__(self, error: Busy) -> None:
        self._error = error

    def connection_made(self, transport: BaseTransport) -> None:
        writer = cast(Transport, transport)
        writer.write(TEXT.error(self._error))
        writer.close()
