"""Where all parts meet: the engine, the broker and its doors, started and stopped in order.

A stop: the doors close for what is new (readiness says no, publishes are refused) and every stream gets its farewell;
then open requests finish; then the line port and the engine go. A second signal ends the process at once.
"""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from logging import ERROR, WARNING
from pathlib import Path
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import uvicorn
import uvloop

from . import __version__, redact
from .accesslog import AccessLog
from .broker import Broker, Timing, steady_clock
from .credentials import Reach, doorkeeper
from .doorkeeper import Doorkeeper
from .engines.base import Engine
from .engines.memory import MemoryEngine
from .engines.sqlite import SqliteEngine
from .errors import PlainmqError
from .journal import JOURNAL, on_loop_error, tell
from .settings import OPTIONS, SettingInvalid, Settings
from .sockets import BACKLOG, bind, raise_open_files, reachable
from .tcp.echo import serve_echo
from .tcp.listener import LineListener
from .tcp.session import LineSession
from .topiclog import Limits, Retention
from .web.app import Bounds, create_app
from .web.guard import Rules
from .web.intake import Intake
from .web.protocol import Connection
from .web.shortcut import Shortcuts

FORCED = 1  # the exit status after a second signal
REFUSED = 1  # that of a start that was refused, or of a crash
LOOK = 10  # uvicorn's ticks of a tenth of a second from one look at the connections to the next


def _memory(settings: Settings, limits: Limits) -> Engine:
    if settings.engine != "memory":
        raise SettingInvalid(f"--engine is {settings.engine!r}: expected just 'memory'")
    return MemoryEngine(limits, steady_clock())


def _sqlite(settings: Settings, limits: Limits) -> Engine:
    path = store_path(settings.engine)
    limits = msgspec.structs.replace(limits, total_bytes=int(settings.max_disk_bytes))
    return SqliteEngine(limits, steady_clock(), path, settings.synchronous, int(settings.min_free_disk))


ENGINES: dict[str, Callable[[Settings, Limits], Engine]] = {"memory": _memory, "sqlite": _sqlite}


def store_path(engine: str) -> Path:
    """`sqlite:///var/lib/plainmq/log.db` → that path from the root; `sqlite:log.db` → one from here. Raises
    SettingInvalid."""
    if match := re.fullmatch(r"sqlite:(?://(?=/))?((?!//[^/]).+)", engine):
        return Path(match[1])
    raise SettingInvalid(f"--engine is {engine!r}: expected sqlite:///PATH, such as sqlite:///var/lib/plainmq/log.db")


def token_path(settings: Settings) -> Path:
    """Where the tokens are. Raises SettingInvalid."""
    return Path(settings.tokens) if settings.tokens else _data_dir(settings) / "tokens"


def _data_dir(settings: Settings) -> Path:
    if settings.data_dir:
        return Path(settings.data_dir)
    if settings.engine.startswith("sqlite:"):
        return store_path(settings.engine).parent
    try:
        return Path.home() / ".local" / "state" / "plainmq"
    except RuntimeError:
        raise SettingInvalid("--data-dir is not set, and the user has no home: say where tokens are kept") from None


class Running(msgspec.Struct, frozen=True):
    """A broker that serves, its doorkeeper, and the socket of its line port."""

    broker: Broker
    keeper: Doorkeeper
    line_socket: socket.socket | None


@asynccontextmanager
async def running(
    settings: Settings, reach: Reach = Reach.SETTINGS, announce: Callable[[str], None] = JOURNAL.show
) -> AsyncIterator[Running]:
    """The broker and the line port of these settings, open."""
    keeper = doorkeeper(settings, token_path(settings), reach, announce)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(_broker(settings))
        sock = bind(settings.tcp_host, settings.tcp_port, *_socket_options(settings)) if settings.tcp_port else None
        if sock is not None:
            session = partial(
                LineSession, broker, settings.max_line, settings.max_message, keeper, float(settings.auth_timeout)
            )
            access = AccessLog(settings.access_log, "line")
            stack.callback(access.tell_rest)
            listener = LineListener(
                sock, session, settings.max_tcp_clients, BACKLOG, access=access, counts=broker.counts
            )
            await stack.enter_async_context(listener)
        yield Running(broker, keeper, sock)


def _broker(settings: Settings) -> Broker:
    retention = Retention(settings.max_messages, int(settings.max_bytes), float(settings.max_age))
    limits = Limits(
        retention, int(settings.max_total_bytes), settings.max_topics, settings.max_groups, float(settings.topic_idle)
    )
    kind = settings.engine.partition(":")[0]
    if kind not in ENGINES:
        raise SettingInvalid(f"--engine is {settings.engine!r}: expected {' or '.join(ENGINES)}")
    timing = Timing(settings.keep_alive, settings.stall_timeout, settings.stream_age)
    return Broker(ENGINES[kind](settings, limits), timing, settings.max_subscribers)


def bounds(settings: Settings) -> Bounds:
    return Bounds(int(settings.max_message), int(settings.max_batch), settings.max_batch_messages)


def rules(settings: Settings) -> Rules:
    public = urlsplit(settings.public_url).hostname if settings.public_url else None
    hosts = {*_listed(settings.allowed_hosts), *([public] if public else [])}
    secure = urlsplit(settings.public_url).scheme == "https"
    return Rules(frozenset(hosts), frozenset(_listed(settings.allowed_origins)), secure)


def _listed(text: str) -> list[str]:
    """`a, b` → a and b"""
    return [part.lower() for part in re.split(r"[,\s]+", text) if part]


def _socket_options(settings: Settings) -> tuple[int, float]:
    return settings.send_buffer, settings.stall_timeout


def serve(settings: Settings) -> None:
    """Serve until a signal. Raises PlainmqError when it cannot, unless a record has said so."""
    with JOURNAL.writing(settings.log_format, settings.log_level):
        begun = monotonic()
        tell("starting", version=__version__, pid=os.getpid(), settings=differing(settings) or None)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings))
        except PlainmqError as error:
            if JOURNAL.human:
                raise
            tell("not started", ERROR, code=error.code, detail=str(error))
            sys.exit(REFUSED)
        except Exception as error:
            tell("crashed", ERROR, error, code="internal_error")
            sys.exit(REFUSED)
        tell("stopped", seconds=monotonic() - begun)


def differing(settings: Settings) -> dict[str, Any]:
    """Those that are not what they are by default, as they may be shown."""
    values = {option.name: (getattr(settings, option.name), option.default) for option in OPTIONS}
    return redact.settings({name: value for name, (value, default) in values.items() if value != default})


async def _serve(settings: Settings) -> None:
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    connections = raise_open_files()
    async with running(settings) as run:
        sock = bind(settings.host, settings.port, *_socket_options(settings))
        app = create_app(run.broker, run.keeper, bounds(settings), rules(settings))
        app.state.shortcuts = Shortcuts(int(settings.max_message), rules(settings), run.keeper)
        app.state.intake = Intake(int(settings.max_head), float(settings.head_timeout), float(settings.body_timeout))
        access = app.state.access = AccessLog(settings.access_log)
        config = uvicorn.Config(
            app,
            log_config=None,
            http=Connection,
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
        )
        server = Server(config, run.broker, lambda: _announce(run, sock, connections))
        await server.serve(sockets=[sock])
        access.tell_rest()


class Server(uvicorn.Server):
    """uvicorn's server, which closes the broker's doors before it waits for connections to end, and ends those whose
    requests come in too slowly."""

    def __init__(self, config: uvicorn.Config, broker: Broker, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._broker = broker
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % LOOK == 0:
            now = asyncio.get_running_loop().time()
            for connection in cast(tuple[Connection, ...], tuple(self.server_state.connections)):
                connection.look(now)
        return await super().on_tick(counter)

    def _drain(self) -> None:
        if not self._broker.draining:
            tell("draining", connections=len(self.server_state.connections), subscribers=self._broker.subscribers())
        self._broker.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own would raise the signal again at the end; a stop that was asked for ends with status 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self.should_exit:
            tell("stopped at once", WARNING, signal=number.name)
            JOURNAL.close()
            os._exit(FORCED)
        self.should_exit = True
        tell("stopping", signal=number.name)
        self._drain()


def echo(host: str, port: int, announce: Callable[[str], None]) -> None:
    """Send every line back until a signal. Raises PlainmqError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_echo(host, port, announce))


async def _echo(host: str, port: int, announce: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    defaults = Settings()
    sock = bind(host, port, *_socket_options(defaults))
    host, port = sock.getsockname()[:2]
    announce(f"plainmq echo: telnet {host} {port}")
    await serve_echo(sock, defaults.max_line, stopped)


def _announce(run: Running, http_socket: socket.socket, connections: int) -> None:
    """To a person, ready lines to type; to a program, the same as a record."""
    if JOURNAL.human:
        JOURNAL.show(banner(run, http_socket, connections))
        return
    line = None if run.line_socket is None else "{}:{}".format(*reachable(run.line_socket))
    tell(
        "listening",
        http="http://{}:{}".format(*reachable(http_socket)),
        line=line,
        durability=run.broker.engine.durability,
        epoch=run.broker.epoch,
        connections=connections,
    )


def banner(run: Running, http_socket: socket.socket, connections: int) -> str:
    """Where it listens, and one ready line for each door."""
    http = "http://{}:{}".format(*reachable(http_socket))
    asks = not run.keeper.open
    token = '-H "Authorization: Bearer $PLAINMQ_TOKEN" ' if asks else ""
    lines = [
        f"plainmq {__version__}: engine {run.broker.engine.durability}, epoch {run.broker.engine.epoch}, "
        f"room for {connections} connections",
        f"  publish    curl {token}-d hello {http}/topics/foo/messages",
        f"  subscribe  curl {token}-N {http}/topics/foo/stream",
    ]
    if run.line_socket is not None:
        host, port = reachable(run.line_socket)
        typed, first = ("auth TOKEN, then help", r"auth $PLAINMQ_TOKEN\n") if asks else ("help", "")
        lines.append(f"  or both    telnet {host} {port}    (type {typed})")
        lines.append(rf"""             printf "{first}pub foo blah\nquit\n" | curl -s telnet://{host}:{port}""")
    return "\n".join(lines)
