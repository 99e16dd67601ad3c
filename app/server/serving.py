"""A process that serves: the engine, the broker and both protocols, started and stopped in order.

A stop has four steps. First, readiness fails and new publishes are refused. Then accepted messages reach their
subscribers, and every stream gets its last event. Then open requests finish. At last the line port and the engine are
closed. A second signal ends the process at once.
"""

import gc
import socket
from functools import partial
from typing import Final

import uvicorn

from ..limits import budget
from ..net.sockets import BACKLOG, raise_open_files, reachable
from ..settings import Loaded, Settings
from ..telemetry.accesslog import AccessLog
from ..web.app import create_app
from ..web.fastpath.context import ServerContext
from ..web.fastpath.limits import RequestLimits
from ..web.fastpath.protocol import Connection
from ..web.fastpath.requests import FastPath
from .banner import Started
from .build import Running, Sockets, network, origin_rules, publish_limits, running, tls_options
from .info import server_info
from .role import Role
from .uvicorn_server import Server

FAILED: Final = 1  # the exit status after a start that failed, or a crash
GC_THRESHOLD: Final = 10_000  # new objects between two collections; a subscriber creates a dozen, and no cycles


async def serve_on(loaded: Loaded, sockets: Sockets, role: Role) -> int:
    """Be a server, or a worker of one, until a signal, or until the log has failed. Returns the exit status. Raises
    PlainmqError."""
    settings = loaded.settings
    connections = raise_open_files()
    http_network = network(settings)
    async with running(settings, sockets.line, role) as run:
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
        started = _started(run, sockets.http[role.place], connections, settings)
        server = Server(config, run, int(settings.max_unsent), role, started, tls=tls)
        gc.collect()
        gc.freeze()  # collections need not visit what the start has made: it stays
        await server.serve(sockets=[*sockets.http])
        access.report_unrecorded()
        return FAILED if run.broker.log.failed else 0


def _started(run: Running, sock: socket.socket, connections: int, settings: Settings) -> Started:
    return Started(
        http="http{}://{}:{}".format("s" if run.certificate else "", *reachable(sock)),
        console=settings.console == "on",
        line_address=None if run.line_port is None else reachable(run.line_port.sock),
        line_tls=settings.tcp_tls == "on",
        needs_token=not run.authenticator.open,
        tokens=run.authenticator.tokens,
        durability=run.broker.log.durability,
        epoch=run.broker.log.epoch,
        connections=connections * settings.workers,
        memory=[*budget.lines(settings, budget.available())],
    )
