"""Listening sockets. What is set on them holds for every connection they accept (Linux), at no cost per connection."""

import resource
import socket
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from .errors import PlainmqError

BACKLOG: Final = 4_096
_IDLE, _INTERVAL, _PROBES = 30, 10, 3  # seconds, seconds, count: a peer that vanished is noticed within a minute


class AddressUnavailable(PlainmqError):
    code = "address_unavailable"


def bind(host: str, port: int, send_buffer: int, stall_timeout: float) -> socket.socket:
    """A socket bound to that address, not listening yet. Raises AddressUnavailable with a sentence."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise AddressUnavailable(f"{host}:{port} is not an address to listen on: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise AddressUnavailable(f"cannot listen on {host}:{port}: {error.strerror}; choose another port?") from None
    _reap_silent_peers(sock, stall_timeout)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    return sock


def _reap_silent_peers(sock: socket.socket, stall_timeout: float) -> None:
    """A peer that neither answers probes nor acknowledges data is gone, whatever its machine said last."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with suppress(AttributeError):  # the names are Linux's
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_timeout * 1000))


def reachable(sock: socket.socket) -> tuple[str, int]:
    """Host and port under which somebody on this machine reaches the socket, as they stand in a URL."""
    host, port = sock.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104
        return "localhost", port
    return (f"[{host}]" if ":" in host else host), port


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address of its own."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def raise_open_files() -> int:
    """Allow as many open files as the system lets us; answers how many connections that makes possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - 64  # the log, the listeners, the loop and some air
