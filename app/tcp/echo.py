"""`plainmq echo`: every line comes back as it was sent. To check that a port is reachable before blaming the queue."""

import asyncio
import socket
from typing import Final

from ..errors import MessageTooLarge
from .connection import Connection
from .dialects.detect import WORDS
from .listener import LineListener

MAX_CLIENTS: Final = 10_000


class EchoSession(Connection):
    __slots__ = ()

    def handle(self, line: bytes) -> None:
        word = line.strip()
        if len(line) > self.max_line:
            self.write(WORDS.error(MessageTooLarge(f"a line has at most {self.max_line} bytes; the rest was skipped")))
        elif word == b"quit":
            self.close()
        elif word:
            self.write(line + self.ending)


async def serve_echo(sock: socket.socket, max_line: int, stopped: asyncio.Event) -> None:
    """Echo on the bound socket until `stopped` is set. `max_line` is in bytes."""
    async with LineListener(sock, lambda: EchoSession(max_line), MAX_CLIENTS):
        await stopped.wait()
