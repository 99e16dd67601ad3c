"""uvicorn's server, with a stop in steps, signals, and the check of slow connections."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from logging import WARNING
from typing import Any, cast

import uvicorn

from ..limits.buffered_bytes import shed_slow_clients
from ..limits.drain import DRAIN_SPREAD
from ..net.sockets import BACKLOG
from ..telemetry.log import LOG_WRITER, log_event
from ..web.fastpath.protocol import Connection
from ..web.fastpath.stream_sink import StreamSink
from .build import Running

STDERR = 2
FORCED = 1  # the exit status after a second signal
CHECK_TICKS = 10  # ticks between two checks of all connections
TICK = 0.1  # seconds, from uvicorn


class Server(uvicorn.Server):
    """uvicorn's server. It drains the broker before it waits for connections to end, and closes connections whose
    requests arrive too slowly."""

    def __init__(
        self, config: uvicorn.Config, run: Running, unsent: int, ready: Callable[[], None], tls: Mapping[str, Any]
    ) -> None:
        """`unsent`: the bytes that all clients together may leave unread; `ready` is called when the server listens;
        `tls`: arguments of `loop.create_server`."""
        super().__init__(config)
        self._unsent = unsent
        self._broker = run.broker
        self._reloads = run.reloads
        self._ready = ready
        self._tls = tls
        self._on_terminal = os.isatty(STDERR)
        self._spread = min(DRAIN_SPREAD, float(config.timeout_graceful_shutdown or 0))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # uvicorn's own listeners would give a TLS handshake a whole minute
        loop = asyncio.get_running_loop()
        connect = partial(
            cast(Any, self.config.http_protocol_class), self.config, self.server_state, self.lifespan.state
        )
        for sock in sockets or []:
            listener = await loop.create_server(connect, sock=sock, backlog=BACKLOG, **self._tls)
            self.servers.append(listener)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % CHECK_TICKS == 0:
            self._check_connections()
        return await super().on_tick(counter)

    def _check_connections(self) -> None:
        now = asyncio.get_running_loop().time()
        connections = cast(tuple[Connection | StreamSink, ...], tuple(self.server_state.connections))
        for connection in connections:
            connection.check(now)
        shed_slow_clients(connections, self._unsent)

    def _drain(self) -> None:
        if not self._broker.admission.draining:
            log_event(
                "draining", connections=len(self.server_state.connections), subscribers=self._broker.subscribers()
            )
        self._broker.drain(self._spread)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        checks = asyncio.create_task(self._keep_checking())
        await self._broker.drained()
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
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGINT: partial(self._stop, signal.SIGINT),
            signal.SIGTERM: partial(self._stop, signal.SIGTERM),
            signal.SIGHUP: self._hang_up,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _hang_up(self) -> None:
        """SIGHUP: `kill -HUP` and `systemctl reload` reload files; closing the server's terminal stops the server."""
        if not self._on_terminal or os.isatty(STDERR):
            self._reloads.run()
        elif not self.should_exit:  # the shell and the kernel both send it, which is not a second signal
            self._stop(signal.SIGHUP)

    def _stop(self, number: signal.Signals) -> None:
        if self.should_exit:
            log_event("stopped at once", WARNING, signal=number.name)
            LOG_WRITER.close()
            os._exit(FORCED)
        self.should_exit = True
        log_event("stopping", signal=number.name)
        self._drain()
