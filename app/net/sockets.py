"""Listening sockets, and what is asked of connected ones. Accepted connections inherit the options of the listening
socket (Linux), at no cost per connection."""

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
_REMEDIES: Final = {
    errno.EADDRINUSE: "stop what listens there, or choose another {port}",
    errno.EACCES: "choose another {port}, from 1024 on, or give the process the right to listen below",
}  # other errors: this machine has no such address
_ACKNOWLEDGED = slice(120, 128)  # of struct tcp_info (linux/tcp.h): tcpi_bytes_acked
_IDLE, _INTERVAL, _PROBES = 30, 10, 3  # seconds, seconds, count: a vanished peer is noticed within a minute


class AddressUnavailable(PlainmqError):
    code = "address_unavailable"


class Names(NamedTuple):
    """The names of the options that set an address, for error sentences."""

    host: str
    port: str


def listen(
    host: str, port: int, send_buffer: int, stall_timeout: float, names: Names, *, shared: bool = False
) -> socket.socket:
    """A socket that listens on that address. Clients wait in its backlog until the server accepts them. It listens at
    once: another process could bind the address of a socket that does not listen yet, and one of the two would get no
    connections. `shared`: with others for which that is said too; the kernel gives each connection to one of them.
    Raises AddressUnavailable."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise _unavailable(host, port, error, names) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _reap_silent_peers(sock, stall_timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _unavailable(host, port, error, names) from None
    return sock


def listen_together(count: int, host: str, port: int, options: tuple[int, float], names: Names) -> list[socket.socket]:
    """So many sockets that listen on one address. `options`: the send buffer and the stall time-out. A server that
    shares its address too could take part, so another socket tries the address first. Raises AddressUnavailable."""
    first = listen(host, port, *options, names)
    found = first.getsockname()[1]
    first.close()
    return [listen(host, found, *options, names, shared=True) for _ in range(count)]


def _unavailable(host: str, port: int, error: OSError, names: Names) -> AddressUnavailable:
    remedy = _REMEDIES.get(error.errno or 0, "choose another {host}")
    return AddressUnavailable(f"cannot listen on {host}:{port}: {error.strerror}; {remedy.format_map(names._asdict())}")


def _reap_silent_peers(sock: socket.socket, stall_timeout: float) -> None:
    """Let the kernel close connections whose peer neither answers keep-alive probes nor acknowledges data."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with suppress(AttributeError):  # these options exist on Linux only
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_timeout * 1000))


def is_tls(transport: BaseTransport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def acknowledged(transport: BaseTransport) -> int:
    """Bytes that the peer of a TLS connection has acknowledged; 0 without TLS.

    A TLS transport has a second buffer below the one that it reports; what moves there is not seen above.
    """
    sock = transport.get_extra_info("socket")
    if not is_tls(transport) or sock is None:
        return 0
    try:
        return bytes_acknowledged(sock)
    except (AttributeError, OSError):
        return 0


def bytes_acknowledged(sock: socket.socket) -> int:
    """All bytes that the peer has acknowledged. Raises OSError; AttributeError where the system counts none."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[_ACKNOWLEDGED], "little")


def abort_when_sent(transport: Transport) -> None:
    """Abort a closing TLS connection if the peer has acknowledged all bytes. The transport would wait for the peer's
    close_notify, which an idle peer does not send."""
    sock = transport.get_extra_info("socket")
    if not is_tls(transport) or sock is None or transport.get_write_buffer_size():
        return
    unsent = array.array("i", [0])
    with suppress(OSError):  # the socket is closed already
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unsent)
    if not unsent[0]:
        transport.abort()


def reachable(sock: socket.socket) -> tuple[str, int]:
    """Host and port of the socket in a URL, for clients on this machine."""
    host, port = sock.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104
        return "localhost", port
    return (f"[{host}]" if ":" in host else host), port


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host is `localhost` or a loopback address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def raise_open_files() -> int:
    """Raise the limit of open files to its hard limit. Returns the number of connections that it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - 64  # 64 for the log, the listeners, the event loop, and a reserve
