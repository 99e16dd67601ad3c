"""How far the bytes that were written to a connection have come: what the other machine has, it has acknowledged."""

import array
import fcntl
import os
import socket
import sys
import termios
from asyncio import Transport
from typing import Final, NamedTuple

from .sockets import bytes_acknowledged, is_tls

HIDDEN: Final = 2 << 20  # bytes: what TLS has below the buffer that it tells of; the largest write, and some more


class Progress(NamedTuple):
    """Of all bytes that were ever written: the other side has `taken` so many, so many more are known to be `waiting`,
    and there are at most so many `hidden` ones. `open`: more of them may be taken."""

    taken: int
    waiting: int
    hidden: int = 0
    open: bool = True

    @property
    def end(self) -> int:
        """The other side has all that was written by now, when it has taken so many."""
        return self.taken + self.waiting + self.hidden

    @property
    def last(self) -> "Progress":
        """The same when the connection is gone."""
        return self._replace(open=False)


ALL: Final = Progress(sys.maxsize, 0, open=False)
"""The connection has ended in good order: the system has what was written, and sees to it."""


def progress(transport: Transport, sock: socket.socket | None = None) -> Progress:
    """Where the system does not say what was acknowledged, what it has taken is with the other side. `sock`: another
    hold on the same socket, which outlasts the transport."""
    waiting = transport.get_write_buffer_size()
    hidden = HIDDEN if is_tls(transport) else 0
    unacknowledged = array.array("i", [0])
    try:
        sock = sock or transport.get_extra_info("socket")
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unacknowledged)  # first: too late is harmless, too early is not
        taken = bytes_acknowledged(sock)
    except (AttributeError, OSError, ValueError):  # it is gone, or no TCP
        return Progress(0, waiting, hidden, not transport.is_closing())
    return Progress(taken, waiting + unacknowledged[0], hidden, not transport.is_closing())


def another_hold(transport: Transport) -> socket.socket | None:
    """On the transport's socket: what was acknowledged can be asked for as long as nobody closes it, and the connection
    ends no sooner. None if there is no socket any more."""
    try:
        return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    except (AttributeError, OSError):
        return None
