"""The parts of a server, built from its settings."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from ..access.authenticator import Authenticator
from ..access.startup import (
    BindScope,
    build_authenticator,
    create_first_token,
    delete_abandoned_first_token,
    read_usable_keys,
    stores_tokens,
    tokens_setting,
    unstored_first_token,
)
from ..broker.broker import Broker, Flow, Timing
from ..limits.quotas import FailedLogins, QuotaLimits, Quotas
from ..log.topic_log import Limits, Retention
from ..net.certificate import Certificate
from ..net.reloads import ReloadHooks
from ..net.sockets import Names, listen, listen_together
from ..settings import SettingInvalid, Settings, flag, named, naming
from ..settings.values import listed
from ..storage.clock import Clock
from ..storage.engine import Engine
from ..storage.memory import MemoryEngine
from ..storage.replicated.engine import ReplicatedEngine
from ..storage.replicated.nats import address as nats_address
from ..storage.replicated.redis import address as redis_address
from ..storage.sqlite.engine import SqliteEngine
from ..tcp.connection import Connection
from ..tcp.listener import LineListener
from ..tcp.session import LineSession
from ..telemetry import redact
from ..telemetry.accesslog import AccessLog
from ..telemetry.log import LOG_WRITER
from ..web.app import Network
from ..web.middleware.forwarded import Proxies
from ..web.middleware.origin import Rules
from ..web.publish_request import PublishLimits
from .places import STORE_EXAMPLE, check_data_dir, check_disk, store_path, token_path
from .role import Role

ENTRY_OVERHEAD: Final = 2 << 20  # bytes of an entry beside its largest command: other commands before it, and encoding


def _memory(settings: Settings, limits: Limits) -> Engine:
    if settings.engine != "memory":
        raise SettingInvalid(f"{named('engine')} is {settings.engine!r}: expected just 'memory'")
    return MemoryEngine(limits, Clock())


def _sqlite(settings: Settings, limits: Limits) -> Engine:
    path = store_path(settings.engine)
    check_disk(path, settings)
    limits = msgspec.structs.replace(limits, total_bytes=int(settings.max_disk_bytes), total_setting="max_disk_bytes")
    return SqliteEngine(limits, Clock(), path, settings.synchronous, int(settings.min_free_disk))


def _redis(settings: Settings, limits: Limits) -> Engine:
    with naming("engine"):
        address = redis_address.parse_address(settings.engine)
    with _extra("redis"):
        from ..storage.replicated.redis.journal import RedisJournal  # noqa: PLC0415  # of an extra, and slow to import
        from ..storage.replicated.redis.server import Durability, Policy  # noqa: PLC0415
    policy, _, replicas = settings.durability.partition(":")
    durability = Durability(cast("Policy", policy), int(replicas or 0))
    journal = RedisJournal(address, durability, float(settings.journal_timeout))
    return ReplicatedEngine(limits, Clock(), journal)


def _nats(settings: Settings, limits: Limits) -> Engine:
    with naming("engine"):
        address = nats_address.parse_address(settings.engine)
    with _extra("nats"):
        from ..storage.replicated.nats.journal import NatsJournal  # noqa: PLC0415
    command_bytes = max(int(settings.max_batch), int(settings.max_message))
    journal = NatsJournal(address, command_bytes + ENTRY_OVERHEAD, float(settings.journal_timeout))
    return ReplicatedEngine(limits, Clock(), journal)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingInvalid(
            f"{named('engine')} needs a package that is not installed ({error.name}): pip install 'plainmq[{name}]'"
        ) from None


SHARED_ENGINES: Final = (*redis_address.SCHEMES, *nats_address.SCHEMES)
ENGINES: dict[str, Callable[[Settings, Limits], Engine]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    **dict.fromkeys(redis_address.SCHEMES, _redis),
    **dict.fromkeys(nats_address.SCHEMES, _nats),
}


class Running(msgspec.Struct, frozen=True):
    """A started broker, with what belongs to it; `reloads` runs on SIGHUP."""

    broker: Broker
    authenticator: Authenticator
    line_port: LineListener | None
    certificate: Certificate | None
    reloads: ReloadHooks


@asynccontextmanager
async def running(
    settings: Settings, line: Sequence[socket.socket], role: Role, scope: BindScope = BindScope.SETTINGS
) -> AsyncIterator[Running]:
    """The broker of these settings, with a line port on one of the sockets `line`, open."""
    announce = role.announce
    certificate = _certificate(settings)
    broker, path = _broker(settings), token_path(settings)
    broker.siblings = role.siblings
    check_data_dir(settings)
    stale = broker.counters.stale
    authenticator = build_authenticator(settings, path, scope, announce, stale)
    authenticator.attempts = FailedLogins(settings.max_failed_logins)
    if any(not proxies.prefixlen for proxies in network(settings).proxies.networks):
        announce(f"WARNING: {flag('trusted_proxies')} has all addresses: every client can claim another address.")
    reloads = _reloads(settings, certificate, authenticator, stale)
    async with AsyncExitStack() as stack:
        for sock in line:
            stack.callback(sock.close)
        stack.callback(reloads.close)
        with naming("engine"):
            await stack.enter_async_context(broker)  # writes the first file
        broker.started = role.begun or broker.started
        if isinstance(broker.log, ReplicatedEngine):
            authenticator.share_tickets(broker.log.tickets)
        if not stores_tokens(settings):
            delete_abandoned_first_token(authenticator, path)
        if authenticator.locked_out:
            _provide_first_token(settings, authenticator, path, announce, stack)
        if scope is BindScope.UNKNOWN:
            _announce_tokens(authenticator, announce)
        line_port = None
        if line:
            tls = tls_options(certificate if settings.tcp_tls == "on" else None, settings) | {"place": role.place}
            line_port = await stack.enter_async_context(_line_port(settings, line, broker, authenticator, tls))
        yield Running(broker, authenticator, line_port, certificate, reloads)


def _provide_first_token(
    settings: Settings, authenticator: Authenticator, path: Path, announce: Callable[[str], None],
    stack: AsyncExitStack,
) -> None:  # fmt: skip
    with naming(tokens_setting(settings)):
        sentence = create_first_token(authenticator, path, stores_tokens(settings), LOG_WRITER.terminal)
    if sentence:
        announce(sentence)
    if not stores_tokens(settings):
        stack.enter_context(unstored_first_token(authenticator, path))


def _announce_tokens(authenticator: Authenticator, announce: Callable[[str], None]) -> None:
    """Under another ASGI server, which has no banner that names the tokens."""
    if authenticator.requires_token and (tokens := authenticator.tokens):
        announce(f"tokens are needed: {tokens}")


@asynccontextmanager
async def _line_port(
    settings: Settings, line: Sequence[socket.socket], broker: Broker, authenticator: Authenticator,
    options: dict[str, Any],
) -> AsyncIterator[LineListener]:  # fmt: skip
    def connect() -> Connection:
        session = LineSession(broker, settings.max_message, authenticator, float(settings.auth_timeout))
        return Connection(session, settings.max_line)

    access = AccessLog(settings.access_log, "line")
    try:
        async with LineListener(
            line, connect, settings.max_tcp_clients, access=access, counters=broker.counters, **options
        ) as listener:
            yield listener
    finally:
        access.report_unrecorded()


def _reloads(
    settings: Settings, certificate: Certificate | None, authenticator: Authenticator, stale: dict[str, int]
) -> ReloadHooks:
    reloads = ReloadHooks(stale)
    if certificate is not None:
        reloads.add("certificate", f"the certificate in {certificate}", certificate.reload)
    if settings.jwt_keys:
        meanwhile = "tokens signed with an unreadable key are refused"
        reloads.add("keys", "the files of --jwt-keys", partial(_renew_keys, settings, authenticator), meanwhile)
    return reloads


def _renew_keys(settings: Settings, authenticator: Authenticator) -> None:
    """Raises KeyInvalid, FileInvalid if a key cannot be read; the others are in force then."""
    keys, error = read_usable_keys(settings)
    authenticator.replace_keys(keys)
    if error is not None:
        raise error


def _certificate(settings: Settings) -> Certificate | None:
    if not settings.tls_cert:
        return None
    with naming("tls_cert", *(["tls_key"] if settings.tls_key else [])):
        return Certificate(Path(settings.tls_cert), Path(settings.tls_key or settings.tls_cert))


def tls_options(certificate: Certificate | None, settings: Settings) -> dict[str, Any]:
    """The arguments of a listener with TLS. A handshake may take as long as the head of a request."""
    return {} if certificate is None else certificate.options(float(settings.head_timeout))


def _broker(settings: Settings) -> Broker:
    retention = Retention(settings.max_messages, int(settings.max_bytes), float(settings.max_age))
    limits = Limits(
        retention, int(settings.max_total_bytes), settings.max_topics, settings.max_groups, float(settings.topic_idle),
        int(settings.max_total_bytes),
    )  # fmt: skip
    kind = settings.engine.partition(":")[0]
    if kind not in ENGINES:
        raise SettingInvalid(
            f"{named('engine')} is {redact.text(settings.engine)!r}: expected {' or '.join(ENGINES)}, such as "
            f"{STORE_EXAMPLE}"
        )
    if kind not in redis_address.SCHEMES and settings.durability != Settings.durability:
        raise SettingInvalid(f"{named('durability')} is {settings.durability}: expected the engine redis for it")
    flow = Flow(int(settings.max_unfinished), int(settings.max_unsent))
    timing = Timing(settings.keep_alive, settings.stall_timeout, settings.stream_age, settings.coalesce)
    quotas = Quotas(QuotaLimits(settings.publish_rate, settings.publish_burst, settings.max_client_subscribers))
    return Broker(ENGINES[kind](settings, limits), timing, settings.max_subscribers, quotas, flow)


def publish_limits(settings: Settings) -> PublishLimits:
    return PublishLimits(int(settings.max_message), int(settings.max_batch), settings.max_batch_messages)


def check_workers(settings: Settings) -> None:
    """Raises SettingInvalid if there are several workers and each would have a log of its own."""
    kind = settings.engine.partition(":")[0]
    if settings.workers > 1 and kind not in SHARED_ENGINES:
        raise SettingInvalid(
            f"{named('workers')} is {settings.workers}: expected 1 with the engine {redact.text(kind)}, because each "
            f"worker would have a log of its own; several need one that they share, such as --engine "
            f"{redis_address.EXAMPLE}"
        )


def network(settings: Settings) -> Network:
    """Raises SettingInvalid."""
    proxies = Proxies(tuple(map(_network, _listed(settings.trusted_proxies))))
    https_host = _public_host(settings) if settings.public_url.lower().startswith("https:") else ""
    return Network(proxies, https_host, settings.public_url.rstrip("/"), settings.tcp_port, settings.console == "on")


def _network(text: str) -> IPv4Network | IPv6Network:
    """`10.0.0.2` or `10.1.0.0/16` → a network. Raises SettingInvalid."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        expected = (
            f"{ip_network(text, strict=False)} for the network, or {text.partition('/')[0]} for that address alone"
        )
    except ValueError:
        expected = "addresses and networks, such as 10.0.0.2, 10.1.0.0/16"
    raise SettingInvalid(f"{named('trusted_proxies')} has {text[:60]!a}: expected {expected}")


def _public_host(settings: Settings) -> str:
    return urlsplit(settings.public_url).hostname or ""


def origin_rules(settings: Settings) -> Rules:
    public = _public_host(settings)
    hosts = {*_listed(settings.allowed_hosts), *([public] if public else [])}
    secure = urlsplit(settings.public_url).scheme == "https"
    return Rules(frozenset(hosts), frozenset(_listed(settings.allowed_origins)), secure)


def _listed(text: str) -> list[str]:
    return listed(text.lower())


class Sockets(NamedTuple):
    """What a server listens on: one socket for each of its workers."""

    http: Sequence[socket.socket]
    line: Sequence[socket.socket]

    def close(self) -> None:
        for sock in (*self.http, *self.line):
            sock.close()


def bind(settings: Settings) -> Sockets:
    """Raises AddressUnavailable."""
    names = Names(named("host"), named("port"))
    return Sockets(_bound(settings, settings.host, settings.port, names), line_sockets(settings))


def line_sockets(settings: Settings) -> Sequence[socket.socket]:
    """None if there is no line port. Raises AddressUnavailable."""
    names = Names(named("tcp_host"), named("tcp_port"))
    return _bound(settings, settings.tcp_host, settings.tcp_port, names) if settings.tcp_port else []


def _bound(settings: Settings, host: str, port: int, names: Names) -> Sequence[socket.socket]:
    options = socket_options(settings)
    if settings.workers == 1:
        return [listen(host, port, *options, names)]
    return listen_together(settings.workers, host, port, options, names)


def socket_options(settings: Settings) -> tuple[int, float]:
    return settings.send_buffer, settings.stall_timeout
