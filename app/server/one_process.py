"""One process serves a socket. Two would each have a log of their own, and clients would reach one or the other.

A server with several workers gives all of them the same socket, before it starts the app. The inode is the socket's
name in every process: the first one binds it as an abstract Unix address, which the kernel frees when the process ends,
and the next one finds it taken. Only Linux has such addresses; elsewhere several processes are not noticed.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from ..settings import SettingInvalid

_OPEN_FILES: Final = Path("/dev/fd")


@contextmanager
def only_process() -> Iterator[None]:
    """Raises SettingInvalid if another process serves from a socket of this one."""
    with ExitStack() as stack:
        for inode, address in _shareable():
            mark = stack.enter_context(socket.socket(socket.AF_UNIX))
            if not _is_first(mark, inode):
                raise SettingInvalid(
                    f"plainmq runs in one process, and another one serves from the same socket ({address}): neither "
                    f"would see the messages of the other. Start one worker: --workers 1, or WEB_CONCURRENCY=1"
                )
        yield


def _is_first(mark: socket.socket, inode: int) -> bool:
    try:
        mark.bind(f"\0plainmq {inode}")
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _shareable() -> Iterator[tuple[int, str]]:
    """The inode and the address of each socket that this process was given to listen on."""
    for number in [int(file.name) for file in _OPEN_FILES.iterdir()] if _OPEN_FILES.is_dir() else ():
        try:
            inode, sock = os.fstat(number).st_ino, socket.socket(fileno=number)
        except OSError:  # it is no socket, or was open for the list only
            continue
        address = _address(sock)
        sock.detach()  # it stays open
        if address:
            yield inode, address


def _address(sock: socket.socket) -> str:
    """Where clients connect to; empty if they cannot."""
    if sock.type != socket.SOCK_STREAM or _has_peer(sock):
        return ""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return os.fsdecode(name)
    return f"{name[0]}:{name[1]}" if name[1] else ""


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
