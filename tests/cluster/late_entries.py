"""A proxy between one server and Redis, at which entries wait: the server is late, and everything else works."""

import asyncio
from asyncio import Event, StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

READ = b"XREAD"
CHUNK = 1 << 16  # bytes


class LateEntries:
    def __init__(self, port: int) -> None:
        self._redis = port
        self._let_through = Event()
        self._let_through.set()
        self.asked = Event()  # something other than an entry was asked for since hold()
        self.port = 0

    def hold(self) -> None:
        self._let_through.clear()
        self.asked.clear()

    def release(self) -> None:
        self._let_through.set()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis)
        reads = Event()  # this connection is the one for entries
        with suppress(ConnectionError):
            await asyncio.gather(
                self._requests(reader, to_redis, reads), self._replies(from_redis, writer, reads),
            )  # fmt: skip
        writer.close()
        to_redis.close()

    async def _requests(self, reader: StreamReader, writer: StreamWriter, reads: Event) -> None:
        while data := await reader.read(CHUNK):
            if READ in data:
                reads.set()
            elif not reads.is_set():
                self.asked.set()
            writer.write(data)
        writer.close()

    async def _replies(self, reader: StreamReader, writer: StreamWriter, reads: Event) -> None:
        while data := await reader.read(CHUNK):
            if reads.is_set():
                await self._let_through.wait()
            writer.write(data)
        writer.close()


@asynccontextmanager
async def late_entries(port: int) -> AsyncIterator[LateEntries]:
    """Before the Redis at this port."""
    proxy = LateEntries(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.release()
        server.close()
