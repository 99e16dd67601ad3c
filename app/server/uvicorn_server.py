"""uvicorn's server, with a stop in steps, signals, and the check of slow connections."""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn

from ..limits.buffered_bytes import shed_slow_clients
from ..limits.drain import DRAIN_SPREAD
from ..net.listeners import Listeners
from ..telemetry.log import log_event
from ..web.fastpath.protocol import Connection
from ..web.fastpath.stream_sink import StreamSink
from .banner import Started
from .build import Running
from .role import Role
from .signals import Signals

CHECK_TICKS = 10  # ticks between two checks of all connections
TICK = 0.1  # seconds, from uvicorn


class Server(uvicorn.Server):
    """uvicorn's server. It drains the broker before it waits for connections to end, and closes connections whose
    requests arrive too slowly."""

    def __init__(
        self, config: uvicorn.Config, run: Running, unsent: int, role: Role, started: Started,
        *, tls: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """`unsent`: the bytes that all clients together may leave unread; `tls`: arguments of `loop.create_server`."""
        super().__init__(config)
        self._unsent = unsent
        self.broker = run.broker
        self.reload = run.reloads.run
        self._line_port = run.line_port
        self._role = role
        self._started = started
        self._tls = tls
        self._spread = min(DRAIN_SPREAD, float(config.timeout_graceful_shutdown or 0))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # uvicorn's own listeners would give a TLS handshake a whole minute
        connect = partial(
            cast(Any, self.config.http_protocol_class), self.config, self.server_state, self.lifespan.state
        )
        self._listeners = Listeners(sockets or [], connect, **self._tls)
        self.servers.append(cast(Any, self._listeners))
        await self._listeners.accept_from(self._role.place)
        self._role.listening(self, self._started)

    async def accept_from(self, *places: int) -> None:
        """Accept connections from these of the server's sockets and no others."""
        for listeners in self._all_listeners():
            await listeners.accept_from(*places)

    def _all_listeners(self) -> list[Listeners]:
        return [self._listeners, *([self._line_port.listeners] if self._line_port else [])]

    async def on_tick(self, counter: int) -> bool:
        if counter % CHECK_TICKS == 0:
            self._check_connections()
        self.should_exit = self.should_exit or bool(self.broker.log.failed)
        return await super().on_tick(counter)

    def _check_connections(self) -> None:
        now = asyncio.get_running_loop().time()
        connections = cast(tuple[Connection | StreamSink, ...], tuple(self.server_state.connections))
        for connection in connections:
            connection.check(now)
        shed_slow_clients(connections, self._unsent)

    def _drain(self) -> None:
        if not self.broker.admission.draining:
            self._role.draining()
            for listeners in self._all_listeners():
                listeners.leave_others()
            log_event("draining", connections=len(self.server_state.connections), subscribers=self.broker.subscribers())
        self.broker.drain(self._spread)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        checks = asyncio.create_task(self._keep_checking())
        await self.broker.drained()
        await super().shutdown(sockets)
        checks.cancel()
        with suppress(asyncio.CancelledError):
            await checks
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()  # closing the loop would wait for the peer

    async def _keep_checking(self) -> None:
        """Check connections during the stop, more often than before it: slow ones would delay it."""
        while True:
            await asyncio.sleep(TICK)
            self._check_connections()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's handlers, which raise the signal again at the end: our exit status is 0."""
        with Signals(self.stop, self.reload).handled():
            yield

    def stop(self) -> None:
        """Idempotent."""
        self.should_exit = True
        self._drain()
