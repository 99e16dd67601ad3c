"""A proxy that serves a server below the path /mq/, and removes that path, as a reverse proxy does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

from tests.harness import free_port


@asynccontextmanager
async def below_a_path(port: int) -> AsyncIterator[str]:
    """Yields the URL, without a slash at its end. Each connection carries one request."""

    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.ensure_future(_serve(port, reader, writer)))

    own = free_port()
    async with await asyncio.start_server(accept, "127.0.0.1", own):
        try:
            yield f"http://127.0.0.1:{own}/mq"
        finally:
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)


async def _serve(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, rest = head.split(b" ", 2)
        if not target.startswith(b"/mq/"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        rest = rest.replace(b"keep-alive", b"close")
        upstream, send = await asyncio.open_connection("127.0.0.1", port)
        with closing(send):
            send.write(b" ".join((method, target.removeprefix(b"/mq"), rest)))
            there = asyncio.ensure_future(_copy(reader, send))
            try:
                await _copy(upstream, writer)
            finally:
                there.cancel()
                await asyncio.gather(there, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
