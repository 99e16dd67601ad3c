"""A client of the line port of a server process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.harness import DEADLINE, ServerProcess


class Lines:
    """A connection to the line port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *lines: str | bytes) -> None:
        for line in lines:
            self.writer.write(line if isinstance(line, bytes) else line.encode() + b"\n")

    async def next(self) -> bytes:
        """The next line with its line end. Empty if the server has closed the connection."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readline()

    async def take(self, count: int) -> list[bytes]:
        return [await self.next() for _ in range(count)]

    async def synchronise(self) -> None:
        """Return once the server has handled all lines sent so far."""
        self.send(b'{"command":"unsubscribe","topic":"nothing"}\n')
        while await self.next() != b'{"success": true}\r\n':
            pass


@asynccontextmanager
async def lines(server: ServerProcess) -> AsyncIterator[Lines]:
    reader, writer = await asyncio.open_connection(server.host, server.tcp_port, limit=1 << 24)
    try:
        yield Lines(reader, writer)
    finally:
        writer.close()


def screen_of(text: str) -> list[str]:
    """The lines of a text that fits a terminal of 24 by 80."""
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    return lines
