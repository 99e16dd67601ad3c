"""Where all parts meet: the engine, the broker and its doors, started and stopped in order.

A stop: the doors close for what is new (readiness says no, publishes are refused); what was accepted reaches its
readers, and every stream gets its farewell; then open requests finish; then the line port and the engine go. A second
signal ends the process at once.
"""

import asyncio
import gc
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from ipaddress import ip_network
from logging import ERROR, WARNING
from pathlib import Path
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import uvicorn
import uvloop

from . import __version__
from .access.credentials import Reach, doorkeeper, keeps_tokens, make_first, read_usable_keys
from .access.doorkeeper import Doorkeeper
from .banner import Started
from .broker import Broker, Flow, Timing
from .clock import Clock
from .core.topiclog import Limits, Retention
from .engines.base import Engine
from .engines.memory import MemoryEngine
from .engines.sqlite import SqliteEngine
from .errors import PlainmqError
from .lawful import listed
from .limits import budget
from .limits.farewells import SPREAD
from .limits.quotas import FailedLogins, Quotas, Shares
from .limits.relief import relieve
from .net.certificate import Certificate
from .net.reloads import Reloads
from .net.sockets import BACKLOG, bind, raise_open_files, reachable
from .settings import OPTIONS, SettingInvalid, Settings
from .tcp.echo import serve_echo
from .tcp.listener import LineListener
from .tcp.session import LineSession
from .telemetry import redact
from .telemetry.accesslog import AccessLog
from .telemetry.journal import JOURNAL, on_loop_error, tell
from .web.app import Network, create_app
from .web.forwarded import Proxies
from .web.guard import Rules
from .web.intake import Intake
from .web.protocol import Connection
from .web.publish import Bounds
from .web.shortcut import Shortcuts
from .web.sink import StreamSink
from .web.staff import Staff

STDERR = 2
FORCED = 1  # the exit status after a second signal
REFUSED = 1  # that of a start that was refused, or of a crash
NEW_OBJECTS = 10_000  # from one look for garbage in circles to the next; a reader leaves a dozen, none of it in circles
_STORE = "sqlite:///var/lib/plainmq/log.db"
LOOK = 10  # uvicorn's ticks of a tenth of a second from one look at the connections to the next


def _memory(settings: Settings, limits: Limits) -> Engine:
    if settings.engine != "memory":
        raise SettingInvalid(f"--engine is {settings.engine!r}: expected just 'memory'")
    return MemoryEngine(limits, Clock())


def _sqlite(settings: Settings, limits: Limits) -> Engine:
    path = store_path(settings.engine)
    limits = msgspec.structs.replace(limits, total_bytes=int(settings.max_disk_bytes))
    return SqliteEngine(limits, Clock(), path, settings.synchronous, int(settings.min_free_disk))


ENGINES: dict[str, Callable[[Settings, Limits], Engine]] = {"memory": _memory, "sqlite": _sqlite}


def store_path(engine: str) -> Path:
    """`sqlite:///var/lib/plainmq/log.db` → that path from the root; `sqlite:log.db` → one from here. Raises
    SettingInvalid, also for what SQLite, or a person, would read as something else than a path."""
    match = re.fullmatch(r"sqlite:(?://(?=/))?((?!//[^/]).+)", engine, re.DOTALL)
    if match is None:
        raise SettingInvalid(f"--engine is {engine!r}: expected sqlite:///PATH, such as {_STORE}")
    for pattern, why in _NO_PATHS.items():
        if re.search(pattern, match[1]):
            raise SettingInvalid(f"--engine is {engine!r}: {why}; expected a file, such as {_STORE}")
    return Path(match[1])


_NO_PATHS = {
    r"(^|/):memory:$": "SQLite keeps that in memory (for a log in memory say `memory`)",
    r"^(?i:file):": "a path is expected, not a URI",
    r"\?": "options behind a `?` are not understood",
    r"^\s*$": "it is blank",
    r"[\ud800-\udfff]": "it is not UTF-8",
    r"(^|/)\.{0,2}$": "that is a folder",
}  # what the path must not be → why


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
    """A broker that serves, its doorkeeper, the socket of its line port, its certificate, what SIGHUP reads again."""

    broker: Broker
    keeper: Doorkeeper
    line_socket: socket.socket | None
    certificate: Certificate | None
    reloads: Reloads


@asynccontextmanager
async def running(
    settings: Settings, reach: Reach = Reach.SETTINGS, announce: Callable[[str], None] = JOURNAL.show
) -> AsyncIterator[Running]:
    """The broker and the line port of these settings, open."""
    certificate = _certificate(settings)
    broker, path = _broker(settings), token_path(settings)
    stale = broker.counts.stale
    keeper = doorkeeper(settings, path, reach, announce, stale)
    keeper.attempts = FailedLogins(settings.max_failed_logins)
    reloads = _reloads(settings, certificate, keeper, stale)
    async with AsyncExitStack() as stack:
        sock = bind(settings.tcp_host, settings.tcp_port, *_socket_options(settings)) if settings.tcp_port else None
        if sock is not None:
            stack.callback(sock.close)
        stack.callback(reloads.close)
        await stack.enter_async_context(broker)  # now the first file is written
        if keeper.shut and (said := make_first(keeper, path, keeps_tokens(settings), JOURNAL.terminal)):
            announce(said)
        if reach is Reach.UNKNOWN and keeper.asks and (tokens := keeper.tokens):  # no banner says so
            announce(f"tokens are needed: {tokens}")
        if sock is not None:
            session = partial(
                LineSession, broker, settings.max_line, settings.max_message, keeper, float(settings.auth_timeout)
            )
            access = AccessLog(settings.access_log, "line")
            stack.callback(access.tell_rest)
            tls = _tls(certificate if settings.tcp_tls == "on" else None, settings)
            listener = LineListener(
                sock, session, settings.max_tcp_clients, BACKLOG, access=access, counts=broker.counts, **tls
            )
            await stack.enter_async_context(listener)
        yield Running(broker, keeper, sock, certificate, reloads)


def _reloads(settings: Settings, certificate: Certificate | None, keeper: Doorkeeper, stale: dict[str, int]) -> Reloads:
    reloads = Reloads(stale)
    if certificate is not None:
        reloads.add("certificate", f"the certificate in {certificate}", certificate.reload)
    if settings.jwt_keys:
        meanwhile = "tokens are refused that were signed with a key that cannot be read"
        reloads.add("keys", "what --jwt-keys names", partial(_renew_keys, settings, keeper), meanwhile)
    return reloads


def _renew_keys(settings: Settings, keeper: Doorkeeper) -> None:
    """Raises KeyInvalid, FileInvalid; then the other keys are in force."""
    keys, wrong = read_usable_keys(settings)
    keeper.renew(keys)
    if wrong is not None:
        raise wrong


def _certificate(settings: Settings) -> Certificate | None:
    if not settings.tls_cert:
        return None
    return Certificate(Path(settings.tls_cert), Path(settings.tls_key or settings.tls_cert))


def _tls(certificate: Certificate | None, settings: Settings) -> dict[str, Any]:
    """What a listener needs to speak it. Who does not finish the handshake holds a place as one who does not ask."""
    return {} if certificate is None else certificate.options(float(settings.head_timeout))


def _broker(settings: Settings) -> Broker:
    retention = Retention(settings.max_messages, int(settings.max_bytes), float(settings.max_age))
    limits = Limits(
        retention, int(settings.max_total_bytes), settings.max_topics, settings.max_groups, float(settings.topic_idle),
        int(settings.max_total_bytes),
    )  # fmt: skip
    kind = settings.engine.partition(":")[0]
    if kind not in ENGINES:
        raise SettingInvalid(f"--engine is {settings.engine!r}: expected {' or '.join(ENGINES)}, such as {_STORE}")
    flow = Flow(int(settings.max_unfinished), int(settings.max_unsent))
    timing = Timing(settings.keep_alive, settings.stall_timeout, settings.stream_age, settings.coalesce)
    return Broker(ENGINES[kind](settings, limits), timing, settings.max_subscribers, Quotas(_shares(settings)), flow)


def _shares(settings: Settings) -> Shares:
    return Shares(settings.publish_rate, settings.publish_burst, settings.max_client_subscribers)


def bounds(settings: Settings) -> Bounds:
    return Bounds(int(settings.max_message), int(settings.max_batch), settings.max_batch_messages)


def network(settings: Settings) -> Network:
    """Raises SettingInvalid."""
    try:
        proxies = Proxies(tuple(map(ip_network, _listed(settings.trusted_proxies))))
    except ValueError as error:
        raise SettingInvalid(f"--trusted-proxies: expected addresses and networks, but {error}") from None
    return Network(proxies, _public_host(settings) if settings.public_url.lower().startswith("https:") else "")


def _public_host(settings: Settings) -> str:
    return urlsplit(settings.public_url).hostname or ""


def rules(settings: Settings) -> Rules:
    public = _public_host(settings)
    hosts = {*_listed(settings.allowed_hosts), *([public] if public else [])}
    secure = urlsplit(settings.public_url).scheme == "https"
    return Rules(frozenset(hosts), frozenset(_listed(settings.allowed_origins)), secure)


def _listed(text: str) -> list[str]:
    return listed(text.lower())


def _socket_options(settings: Settings) -> tuple[int, float]:
    return settings.send_buffer, settings.stall_timeout


def serve(settings: Settings) -> None:
    """Serve until a signal. Raises PlainmqError when it cannot, unless a record has said so."""
    with JOURNAL.writing(settings.log_format, settings.log_level):
        begun = monotonic()
        gc.set_threshold(NEW_OBJECTS)
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
    surroundings = network(settings)  # what is wrong there is said before a token is made
    sock = bind(settings.host, settings.port, *_socket_options(settings))
    async with running(settings) as run:
        app = create_app(run.broker, run.keeper, bounds(settings), rules(settings), network=surroundings)
        shortcuts = Shortcuts(bounds(settings), rules(settings), run.keeper)
        intake = Intake(
            int(settings.max_head),
            float(settings.head_timeout),
            float(settings.body_timeout),
            settings.max_http_clients,
        )
        access = app.state.access = AccessLog(settings.access_log)
        staff = Staff(run.broker, run.keeper, shortcuts, intake, surroundings.proxies, access)
        config = uvicorn.Config(
            app,
            log_config=None,
            http=partial(Connection, staff=staff),  # type: ignore[arg-type]  # uvicorn calls it, and asks no more
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
        await server.serve(sockets=[sock])
        access.tell_rest()


def _started(run: Running, sock: socket.socket, connections: int, settings: Settings) -> Started:
    return Started(
        http="http{}://{}:{}".format("s" if run.certificate else "", *reachable(sock)),
        line=None if run.line_socket is None else reachable(run.line_socket),
        line_tls=settings.tcp_tls == "on",
        asks=not run.keeper.open,
        tokens=run.keeper.tokens,
        durability=run.broker.engine.durability,
        epoch=run.broker.epoch,
        connections=connections,
        memory=[*budget.lines(settings, budget.available())],
    )


class Server(uvicorn.Server):
    """uvicorn's server, which closes the broker's doors before it waits for connections to end, and ends those whose
    requests come in too slowly."""

    def __init__(
        self, config: uvicorn.Config, run: Running, unsent: int, ready: Callable[[], None], tls: Mapping[str, Any]
    ) -> None:
        """`unsent`: bytes of answers that clients need not have taken, all together; `tls`: what `loop.create_server`
        needs to speak it."""
        super().__init__(config)
        self._unsent = unsent
        self._broker = run.broker
        self._reloads = run.reloads
        self._ready = ready
        self._tls = tls
        self._on_terminal = os.isatty(STDERR)
        self._spread = min(SPREAD, float(config.timeout_graceful_shutdown or 0))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # it would give a TLS handshake a whole minute
        loop = asyncio.get_running_loop()
        connect = partial(
            cast(Any, self.config.http_protocol_class), self.config, self.server_state, self.lifespan.state
        )
        for sock in sockets or []:
            listener = await loop.create_server(connect, sock=sock, backlog=BACKLOG, **self._tls)
            self.servers.append(listener)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % LOOK == 0:
            self._look()
        return await super().on_tick(counter)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        connections = cast(tuple[Connection | StreamSink, ...], tuple(self.server_state.connections))
        for connection in connections:
            connection.look(now)
        relieve(connections, self._unsent)

    def _drain(self) -> None:
        if not self._broker.draining:
            tell("draining", connections=len(self.server_state.connections), subscribers=self._broker.subscribers())
        self._broker.drain(self._spread)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        looking = asyncio.create_task(self._look_on())
        await self._broker.drained()
        await super().shutdown(sockets)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()  # or the loop waits for its peer, when it is closed

    async def _look_on(self) -> None:
        """Connections are looked at until the last has gone, or the slow ones would hold the stop up."""
        while True:
            await asyncio.sleep(LOOK / 100)
            self._look()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own would raise the signal again at the end; a stop that was asked for ends with status 0."""
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
        """`kill -HUP`, or `systemctl reload`; or somebody has closed the terminal that the server runs in."""
        if not self._on_terminal or os.isatty(STDERR):
            self._reloads.run()
        elif not self.should_exit:  # the shell says so, and so does the kernel: that is one wish
            self._stop(signal.SIGHUP)

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
