import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..access.authenticator import Authenticator
from ..access.startup import (
    BindScope,
    build_authenticator,
    forget_first,
    keeps_tokens,
    make_first,
    place_of_tokens,
    read_usable_keys,
)
from ..broker.broker import Broker, Flow, Timing
from ..limits.quotas import FailedLogins, QuotaLimits, Quotas
from ..log.topic_log import Limits, Retention
from ..net.certificate import Certificate
from ..net.reloads import ReloadHooks
from ..net.sockets import BACKLOG, Names, listen
from ..settings import SettingInvalid, Settings, named, naming
from ..settings.values import listed
from ..storage.clock import Clock
from ..storage.engine import Engine
from ..storage.memory import MemoryEngine
from ..storage.sqlite.engine import SqliteEngine
from ..tcp.connection import Connection
from ..tcp.listener import LineListener
from ..tcp.session import LineSession
from ..telemetry.accesslog import AccessLog
from ..telemetry.log import LOG_WRITER
from ..web.api.publish import PublishLimits
from ..web.app import Network
from ..web.middleware.forwarded import Proxies
from ..web.middleware.origin import Rules
from .places import check_data_dir, check_disk

_STORE = "sqlite:///var/lib/plainmq/log.db"


def _memory(settings: Settings, limits: Limits) -> Engine:
    if settings.engine != "memory":
        raise SettingInvalid(f"{named('engine')} is {settings.engine!r}: expected just 'memory'")
    return MemoryEngine(limits, Clock())


def _sqlite(settings: Settings, limits: Limits) -> Engine:
    path = store_path(settings.engine)
    check_disk(path, settings)
    limits = msgspec.structs.replace(limits, total_bytes=int(settings.max_disk_bytes), total_setting="max_disk_bytes")
    return SqliteEngine(limits, Clock(), path, settings.synchronous, int(settings.min_free_disk))


ENGINES: dict[str, Callable[[Settings, Limits], Engine]] = {"memory": _memory, "sqlite": _sqlite}


def store_path(engine: str) -> Path:
    """`sqlite:///var/lib/plainmq/log.db` → that path from the root; `sqlite:log.db` → one from here. Raises
    SettingInvalid, also for what SQLite, or a person, would read as something else than a path."""
    match = re.fullmatch(r"sqlite:(?://(?=/))?((?!//[^/]).+)", engine, re.DOTALL)
    if match is None:
        raise SettingInvalid(f"{named('engine')} is {engine!r}: expected sqlite:///PATH, such as {_STORE}")
    for pattern, why in _NO_PATHS.items():
        if re.search(pattern, match[1]):
            raise SettingInvalid(f"{named('engine')} is {engine!r}: {why}; expected a file, such as {_STORE}")
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
        raise SettingInvalid(
            f"{named('data_dir')} is not set, and the user has no home: say where tokens are kept"
        ) from None


class Running(msgspec.Struct, frozen=True):
    """A broker that serves, its authenticator, the socket of its line port, its certificate, and what SIGHUP reads
    again."""

    broker: Broker
    authenticator: Authenticator
    line_socket: socket.socket | None
    certificate: Certificate | None
    reloads: ReloadHooks


@asynccontextmanager
async def running(
    settings: Settings, reach: BindScope = BindScope.SETTINGS, announce: Callable[[str], None] = LOG_WRITER.show
) -> AsyncIterator[Running]:
    """The broker and the line port of these settings, open."""
    certificate = _certificate(settings)
    broker, path = _broker(settings), token_path(settings)
    check_data_dir(settings)
    stale = broker.counters.stale
    authenticator = build_authenticator(settings, path, reach, announce, stale)
    authenticator.attempts = FailedLogins(settings.max_failed_logins)
    reloads = _reloads(settings, certificate, authenticator, stale)
    async with AsyncExitStack() as stack:
        sock = line_socket(settings) if settings.tcp_port else None
        if sock is not None:
            stack.callback(sock.close)
        stack.callback(reloads.close)
        with naming("engine"):
            await stack.enter_async_context(broker)  # now the first file is written
        if authenticator.locked_out:
            with naming(place_of_tokens(settings)):
                said = make_first(authenticator, path, keeps_tokens(settings), LOG_WRITER.terminal)
            if said:
                announce(said)
            if not keeps_tokens(settings):
                stack.callback(forget_first, authenticator, path)
        if (
            reach is BindScope.UNKNOWN and authenticator.requires_token and (tokens := authenticator.tokens)
        ):  # no banner says so
            announce(f"tokens are needed: {tokens}")
        if sock is not None:

            def connect() -> Connection:
                session = LineSession(broker, settings.max_message, authenticator, float(settings.auth_timeout))
                return Connection(session, settings.max_line)

            access = AccessLog(settings.access_log, "line")
            stack.callback(access.report_unrecorded)
            tls = _tls(certificate if settings.tcp_tls == "on" else None, settings)
            listener = LineListener(
                sock, connect, settings.max_tcp_clients, BACKLOG, access=access, counters=broker.counters, **tls
            )
            await stack.enter_async_context(listener)
        yield Running(broker, authenticator, sock, certificate, reloads)


def _reloads(
    settings: Settings, certificate: Certificate | None, authenticator: Authenticator, stale: dict[str, int]
) -> ReloadHooks:
    reloads = ReloadHooks(stale)
    if certificate is not None:
        reloads.add("certificate", f"the certificate in {certificate}", certificate.reload)
    if settings.jwt_keys:
        meanwhile = "tokens are refused that were signed with a key that cannot be read"
        reloads.add("keys", "what --jwt-keys names", partial(_renew_keys, settings, authenticator), meanwhile)
    return reloads


def _renew_keys(settings: Settings, authenticator: Authenticator) -> None:
    """Raises KeyInvalid, FileInvalid; then the other keys are in force."""
    keys, wrong = read_usable_keys(settings)
    authenticator.replace_keys(keys)
    if wrong is not None:
        raise wrong


def _certificate(settings: Settings) -> Certificate | None:
    if not settings.tls_cert:
        return None
    with naming("tls_cert", *(["tls_key"] if settings.tls_key else [])):
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
        raise SettingInvalid(
            f"{named('engine')} is {settings.engine!r}: expected {' or '.join(ENGINES)}, such as {_STORE}"
        )
    flow = Flow(int(settings.max_unfinished), int(settings.max_unsent))
    timing = Timing(settings.keep_alive, settings.stall_timeout, settings.stream_age, settings.coalesce)
    quotas = Quotas(QuotaLimits(settings.publish_rate, settings.publish_burst, settings.max_client_subscribers))
    return Broker(ENGINES[kind](settings, limits), timing, settings.max_subscribers, quotas, flow)


def bounds(settings: Settings) -> PublishLimits:
    return PublishLimits(int(settings.max_message), int(settings.max_batch), settings.max_batch_messages)


def network(settings: Settings) -> Network:
    """Raises SettingInvalid."""
    proxies = Proxies(tuple(map(_network, _listed(settings.trusted_proxies))))
    return Network(proxies, _public_host(settings) if settings.public_url.lower().startswith("https:") else "")


def _network(text: str) -> IPv4Network | IPv6Network:
    """An address, or a network by its first address. Raises SettingInvalid."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = f"{ip_network(text, strict=False)} for the network, or {text.partition('/')[0]} for that address alone"
    except ValueError:
        meant = "addresses and networks, such as 10.0.0.2, 10.1.0.0/16"
    raise SettingInvalid(f"{named('trusted_proxies')} has {text[:60]!a}: expected {meant}")


def _public_host(settings: Settings) -> str:
    return urlsplit(settings.public_url).hostname or ""


def rules(settings: Settings) -> Rules:
    public = _public_host(settings)
    hosts = {*_listed(settings.allowed_hosts), *([public] if public else [])}
    secure = urlsplit(settings.public_url).scheme == "https"
    return Rules(frozenset(hosts), frozenset(_listed(settings.allowed_origins)), secure)


def _listed(text: str) -> list[str]:
    return listed(text.lower())


def http_socket(settings: Settings) -> socket.socket:
    """Raises AddressUnavailable."""
    return listen(settings.host, settings.port, *socket_options(settings), Names(named("host"), named("port")))


def line_socket(settings: Settings) -> socket.socket:
    """Raises AddressUnavailable."""
    names = Names(named("tcp_host"), named("tcp_port"))
    return listen(settings.tcp_host, settings.tcp_port, *socket_options(settings), names)


def socket_options(settings: Settings) -> tuple[int, float]:
    return settings.send_buffer, settings.stall_timeout
