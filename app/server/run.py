"""Where all parts meet: the engine, the broker and its doors, started and stopped in order.

A stop: the doors close for what is new (readiness says no, publishes are refused); what was accepted reaches its
readers, and every stream gets its farewell; then open requests finish; then the line port and the engine go. A second
signal ends the process at once."""

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

from ..errors import PlainmqError
from ..limits import budget
from ..net.sockets import BACKLOG, Names, listen, raise_open_files, reachable
from ..settings import OPTIONS, Settings
from ..tcp.echo import serve_echo
from ..telemetry import redact
from ..telemetry.accesslog import AccessLog
from ..telemetry.log import LOG_WRITER, log_event, on_loop_error
from ..version import __version__
from ..web.app import create_app
from ..web.fastpath.context import ServerContext
from ..web.fastpath.limits import RequestLimits
from ..web.fastpath.protocol import Connection
from ..web.fastpath.requests import FastPath
from .banner import Started
from .build import Running, _tls, bounds, http_socket, network, rules, running, socket_options
from .uvicorn_server import Server

REFUSED = 1  # that of a start that was refused, or of a crash
NEW_OBJECTS = 10_000  # from one look for garbage in circles to the next; a reader leaves a dozen, none of it in circles


def serve(settings: Settings) -> None:
    """Serve until a signal. Raises PlainmqError when it cannot, unless a record has said so."""
    with LOG_WRITER.writing(settings.log_format, settings.log_level):
        begun = monotonic()
        gc.set_threshold(NEW_OBJECTS)
        log_event("starting", version=__version__, pid=os.getpid(), settings=differing(settings) or None)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings))
        except PlainmqError as error:
            if LOG_WRITER.human:
                raise
            log_event("not started", ERROR, code=error.code, detail=str(error))
            sys.exit(REFUSED)
        except Exception as error:
            log_event("crashed", ERROR, error, code="internal_error")
            sys.exit(REFUSED)
        log_event("stopped", seconds=monotonic() - begun)


def differing(settings: Settings) -> dict[str, Any]:
    """Those that are not what they are by default, as they may be shown."""
    values = {option.name: (getattr(settings, option.name), option.default) for option in OPTIONS}
    return redact.settings({name: value for name, (value, default) in values.items() if value != default})


async def _serve(settings: Settings) -> None:
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    connections = raise_open_files()
    surroundings = network(settings)  # what is wrong there is said before a token is made
    sock = http_socket(settings)
    async with running(settings) as run:
        app = create_app(run.broker, run.authenticator, bounds(settings), rules(settings), network=surroundings)
        fast_path = FastPath(bounds(settings), rules(settings), run.authenticator)
        request_limits = RequestLimits(
            int(settings.max_head),
            float(settings.head_timeout),
            float(settings.body_timeout),
            settings.max_http_clients,
        )
        access = app.state.access = AccessLog(settings.access_log)
        context = ServerContext(run.broker, run.authenticator, fast_path, request_limits, surroundings.proxies, access)
        config = uvicorn.Config(
            app,
            log_config=None,
            http=partial(Connection, context=context),  # type: ignore[arg-type]  # uvicorn calls it, and asks no more
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
        )
        tls = _tls(run.certificate, settings)
        started = _started(run, sock, connections, settings)
        server = Server(config, run, int(settings.max_unsent), started.announce, tls)
        gc.collect()
        gc.freeze()  # the modules and the start stay: collections need not visit them
        await server.serve(sockets=[sock])
        access.report_unrecorded()


def _started(run: Running, sock: socket.socket, connections: int, settings: Settings) -> Started:
    return Started(
        http="http{}://{}:{}".format("s" if run.certificate else "", *reachable(sock)),
        line=None if run.line_socket is None else reachable(run.line_socket),
        line_tls=settings.tcp_tls == "on",
        asks=not run.authenticator.open,
        tokens=run.authenticator.tokens,
        durability=run.broker.engine.durability,
        epoch=run.broker.epoch,
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
