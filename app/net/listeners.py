"""Listening sockets that several processes may share: each accepts connections from some of them."""

from asyncio import AbstractServer, Protocol, get_running_loop
from collections.abc import Callable, Sequence
from socket import socket
from typing import Any

from .sockets import BACKLOG


class Listeners:
    """Accepts connections from some of these sockets. `options` are those of `loop.create_server`."""

    def __init__(self, sockets: Sequence[socket], connect: Callable[[], Protocol], **options: Any) -> None:
        self._sockets = sockets
        self._connect = connect
        self._options: dict[str, Any] = {"backlog": BACKLOG} | options
        self._servers: dict[int, AbstractServer] = {}  # by the place of the socket

    async def accept_from(self, *places: int) -> None:
        """From these sockets and no others. The sockets themselves stay open."""
        for place in {*places} - self._servers.keys():
            if self._sockets[place].fileno() >= 0:
                sock = self._sockets[place].dup()
                self._servers[place] = await get_running_loop().create_server(self._connect, sock=sock, **self._options)
        for place in self._servers.keys() - {*places}:
            self._servers.pop(place).close()

    def leave_others(self) -> None:
        """Close the sockets from which no connections are accepted here. Idempotent."""
        for place, sock in enumerate(self._sockets):
            if place not in self._servers:
                sock.close()

    def close(self) -> None:
        """Close all sockets. Idempotent."""
        for server in self._servers.values():
            server.close()
        for sock in self._sockets:
            sock.close()

    async def wait_closed(self) -> None:
        for server in self._servers.values():
            await server.wait_closed()
