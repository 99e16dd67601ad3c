"""Listening sockets. What is set on them holds for every connection they accept (Linux), at no cost per connection."""

import array
import errno
import fcntl
import resource
import socket
import termios
from asyncio import BaseTransport, Transport
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

from ..errors import PlainmqError

BACKLOG: Final = 4_096
_WAYS_OUT: Final = {
    errno.EADDRINUSE: "stop what listens there, or choose another {port}",
    errno.EACCES: "choose another {port}, from 1024 on, or give the process the right to listen below",
}  # other errors mean that this machine has no such address
_ACKNOWLEDGED = slice(120, 128)  # of struct tcp_info (linux/tcp.h): tcpi_bytes_acked
_IDLE, _INTERVAL, _PROBES = 30, 10, 3  # seconds, seconds, count: a peer that vanished is noticed within a minute


class AddressUnavailable(PlainmqError):
    code = "address_unavailable"


class Names(NamedTuple):
    """What an address is called where it is set, for sentences."""

    host: str
    port: str


def listen(host: str, port: int, send_buffer: int, stall_timeout: float, names: Names) -> socket.socket:
    """A socket that listens on that address. Clients wait in its backlog until it is served: as long as it did not
    listen, another could be bound to the same address, and one of the two would stay deaf. Raises AddressUnavailable
    with a sentence."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise _unavailable(host, port, error, names) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _reap_silent_peers(sock, stall_timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _unavailable(host, port, error, names) from None
    return sock


def _unavailable(host: str, port: int, error: OSError, names: Names) -> AddressUnavailable:
    way_out = _WAYS_OUT.get(error.errno or 0, "choose another {host}")
    return AddressUnavailable(
        f"cannot listen on {host}:{port}: {error.strerror}; {way_out.format_map(names._asdict())}"
    )


def _reap_silent_peers(sock: socket.socket, stall_timeout: float) -> None:
    """A peer that neither answers probes nor acknowledges data is gone, whatever its machine said last."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with suppress(AttributeError):  # the names are Linux's
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_timeout * 1000))


def is_tls(transport: BaseTransport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def acknowledged(transport: BaseTransport) -> int:
    """Bytes that the peer has acknowledged so far, of a TLS connection; otherwise 0.

    A TLS transport has a second buffer below the one that it tells of, and what moves there goes unseen above.
    """
    sock = transport.get_extra_info("socket")
    if not is_tls(transport) or sock is None:
        return 0
    try:
        return bytes_acknowledged(sock)
    except (AttributeError, OSError):
        return 0


def bytes_acknowledged(sock: socket.socket) -> int:
    """By the peer, of all that was ever sent. Raises AttributeError where the system does not count them, OSError."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[_ACKNOWLEDGED], "little")


def let_go(transport: Transport) -> None:
    """End a TLS connection that is being closed, once the peer has all that it was sent. It would be waited for to say
    goodbye as well, and one that is idle does not, as long as it has nothing to ask."""
    sock = transport.get_extra_info("socket")
    if not is_tls(transport) or sock is None or transport.get_write_buffer_size():
        return
    unsent = array.array("i", [0])
    with suppress(OSError):  # it is gone already
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unsent)
    if not unsent[0]:
        transport.abort()


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
