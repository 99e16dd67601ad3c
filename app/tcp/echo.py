"""`plainmq echo`: the server sends every line back. With it, one can check that a port is reachable before blaming the
queue."""

import asyncio
import socket
from typing import Final

from ..errors import MessageTooLarge
from .connection import Connection, Session
from .dialects.detect import TEXT
from .listener import LineListener

MAX_CLIENTS: Final = 10_000


class EchoSession(Session):
    __slots__ = ("_connection",)

    def opened(self, connection: Connection) -> None:
        self._connection = connection

    def handle(self, line: bytes) -> None:
        connection, word = self._connection, line.strip()
        if len(line) > connection.max_line:
            error = MessageTooLarge(f"a line has at most {connection.max_line} bytes; the rest was skipped")
            connection.write(TEXT.error(error))
        elif word == b"quit":
            connection.close()
        elif word:
            connection.write(line + connection.line_end)


async def serve_echo(sock: socket.socket, max_line: int, stopped: asyncio.Event) -> None:
    """Echo on the bound socket until `stopped` is set. `max_line` is in bytes."""
    async with LineListener([sock], lambda: Connection(EchoSession(), max_line), MAX_CLIENTS):
        await stopped.wait()
