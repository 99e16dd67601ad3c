"""Progress of the bytes written to a connection: how many of them the peer's TCP has acknowledged."""

import array
import fcntl
import os
import socket
import sys
import termios
from asyncio import Transport
from typing import Final, NamedTuple

from .sockets import bytes_acknowledged, is_tls

HIDDEN: Final = 2 << 20  # bytes: what TLS may buffer below its visible write buffer: the largest write, and a reserve


class Progress(NamedTuple):
    """All bytes ever written to a connection: `taken` ones are acknowledged by the peer, `waiting` ones are buffered
    here, and at most `hidden` more are in buffers that cannot be seen. `open`: `taken` may still grow."""

    taken: int
    waiting: int
    hidden: int = 0
    open: bool = True

    @property
    def end(self) -> int:
        """The peer has all that was written so far when `taken` has reached this."""
        return self.taken + self.waiting + self.hidden

    @property
    def last(self) -> "Progress":
        """This progress, marked as that of a closed connection."""
        return self._replace(open=False)


ALL: Final = Progress(sys.maxsize, 0, open=False)
"""The connection was closed in order: the kernel has all bytes, and delivers them."""

NOTHING: Final = Progress(0, 0, sys.maxsize, open=False)
"""The connection is closed, and nobody asked before: what is written now does not arrive."""


def progress(transport: Transport, sock: socket.socket | None = None) -> Progress:
    """Where the system does not report acknowledged bytes, those given to the kernel count as taken. `sock` is a
    duplicate of the transport's socket (duplicate_socket), which outlives the transport."""
    waiting = transport.get_write_buffer_size()
    hidden = HIDDEN if is_tls(transport) else 0
    unacknowledged = array.array("i", [0])
    try:
        sock = sock or transport.get_extra_info("socket")
        fcntl.ioctl(
            sock.fileno(), termios.TIOCOUTQ, unacknowledged
        )  # read first: bytes acknowledged in between may count twice, but none is missed
        taken = bytes_acknowledged(sock)
    except (AttributeError, OSError, ValueError):  # the socket is closed, or not TCP
        return Progress(0, waiting, hidden, not transport.is_closing())
    return Progress(taken, waiting + unacknowledged[0], hidden, not transport.is_closing())


def last_progress(transport: Transport, watched: bool) -> Progress:
    """The progress of a connection that was lost. `watched`: somebody has asked for it before. Few connections get a
    message of `delivery=one`; the system is not asked about the others."""
    return progress(transport).last if watched else NOTHING


def duplicate_socket(transport: Transport) -> socket.socket | None:
    """A duplicate of the transport's socket, to read the acknowledged bytes from after the transport is closed. The
    connection stays open until the caller closes it. None if the socket is closed already."""
    try:
        return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    except (AttributeError, OSError):
        return None
