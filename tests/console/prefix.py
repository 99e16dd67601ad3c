"""A proxy that serves a server below the path /mq/, and removes that path, as a reverse proxy does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.harness import free_port


@asynccontextmanager
async def below_a_path(port: int) -> AsyncIterator[str]:
    """Yields the URL, without a slash at its end. Each connection carries one request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, rest = head.split(b" ", 2)
            if not target.startswith(b"/mq/"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                writer.close()
                return
            rest = rest.replace(b"keep-alive", b"close")
            upstream, send = await asyncio.open_connection("127.0.0.1", port)
            send.write(b" ".join((method, target.removeprefix(b"/mq"), rest)))
            there, back = asyncio.ensure_future(_copy(reader, send)), asyncio.ensure_future(_copy(upstream, writer))
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            await back
            there.cancel()
            send.close()
            writer.close()

    own = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", own):
        yield f"http://127.0.0.1:{own}/mq"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
