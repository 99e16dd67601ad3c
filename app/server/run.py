"""The life of a server: the engine, the broker and both protocols, started and stopped in order.

A stop has four steps. First, readiness fails and new publishes are refused. Then accepted messages reach their
subscribers, and every stream gets its last event. Then open requests finish. At last the line port and the engine are
closed. A second signal ends the process at once.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from logging import ERROR
from time import monotonic
from typing import Any

import uvicorn
import uvloop

from .. import __version__
from ..errors import PlainmqError
from ..limits import budget
from ..net.sockets import BACKLOG, Names, listen, raise_open_files, reachable
from ..settings import OPTIONS, Loaded, Settings
from ..tcp.echo import serve_echo
from ..telemetry import redact
from ..telemetry.accesslog import AccessLog
from ..telemetry.log import LOG_WRITER, log_event, on_loop_error
from ..web.app import create_app
from ..web.fastpath.context import ServerContext
from ..web.fastpath.limits import RequestLimits
from ..web.fastpath.protocol import Connection
from ..web.fastpath.requests import FastPath
from .banner import Started
from .build import Running, http_socket, network, origin_rules, publish_limits, running, socket_options, tls_options
from .info import server_info
from .uvicorn_server import Server

FAILED = 1  # the exit status after a start that failed, or a crash
GC_THRESHOLD = 10_000  # new objects between two collections; a subscriber creates a dozen, and no reference cycles


def serve(loaded: Loaded) -> None:
    """Serve until a signal. If the start fails, raises PlainmqError or, with a log for programs,
    logs the error and exits."""
    settings = loaded.settings
    with LOG_WRITER.writing(settings.log_format, settings.log_level):
        begun = monotonic()
        gc.set_threshold(GC_THRESHOLD)
        log_event("starting", version=__version__, pid=os.getpid(), settings=changed_settings(settings) or None)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(loaded))
        except PlainmqError as error:
            if LOG_WRITER.human:
                raise
            log_event("not started", ERROR, code=error.code, detail=str(error))
            sys.exit(FAILED)
        except Exception as error:
            log_event("crashed", ERROR, error, code="internal_error")
            sys.exit(FAILED)
        log_event("stopped", seconds=monotonic() - begun)


def changed_settings(settings: Settings) -> dict[str, Any]:
    """The settings that are not the default, without secrets."""
    values = {option.name: (getattr(settings, option.name), option.default) for option in OPTIONS}
    return redact.settings({name: value for name, (value, default) in values.items() if value != default})


async def _serve(loaded: Loaded) -> None:
    settings = loaded.settings
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    connections = raise_open_files()
    http_network = network(settings)  # its errors come before a token is made
    sock = http_socket(settings)
    async with running(settings) as run:
        app = create_app(
            run.broker,
            run.authenticator,
            publish_limits(settings),
            origin_rules(settings),
            network=http_network,
            info=server_info(loaded, counts_connections=True),
        )
        fast_path = FastPath(publish_limits(settings), origin_rules(settings), run.authenticator)
        request_limits = RequestLimits(
            int(settings.max_head),
            float(settings.head_timeout),
            float(settings.body_timeout),
            settings.max_http_clients,
        )
        access = app.state.access = AccessLog(settings.access_log)
        context = ServerContext(run.broker, run.authenticator, fast_path, request_limits, http_network.proxies, access)
        config = uvicorn.Config(
            app,
            log_config=None,
            http=partial(Connection, context=context),  # type: ignore[arg-type]  # uvicorn only calls it
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
        )
        tls = tls_options(run.certificate, settings)
        started = _started(run, sock, connections, settings)
        server = Server(config, run, int(settings.max_unsent), started.announce, tls)
        gc.collect()
        gc.freeze()  # collections need not visit what the start has made: it stays
        await server.serve(sockets=[sock])
        access.report_unrecorded()


def _started(run: Running, sock: socket.socket, connections: int, settings: Settings) -> Started:
    return Started(
        http="http{}://{}:{}".format("s" if run.certificate else "", *reachable(sock)),
        console=settings.console == "on",
        line_address=None if run.line_socket is None else reachable(run.line_socket),
        line_tls=settings.tcp_tls == "on",
        needs_token=not run.authenticator.open,
        tokens=run.authenticator.tokens,
        durability=run.broker.log.durability,
        epoch=run.broker.log.epoch,
        connections=connections,
        memory=[*budget.lines(settings, budget.available())],
    )


def echo(host: str, port: int, announce: Callable[[str], None]) -> None:
    """Send every line back until a signal. Raises PlainmqError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_echo(host, port, announce))


async def _echo(host: str, port: int, announce: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    defaults = Settings()
    sock = listen(host, port, *socket_options(defaults), Names("--host", "PORT"))
    host, port = sock.getsockname()[:2]
    announce(f"plainmq echo: telnet {host} {port}")
    await serve_echo(sock, defaults.max_line, stopped)
