"""A small TCP proxy that breaks connections, and a publisher behind it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import httpx

from tests.harness import http_client

_RETRY = re.compile(rb"retry: \d{4}\n")  # as long as before: the sizes of chunks stay true
_END = b"\r\n\r\n"  # of a head
_KEEP_ALIVE = re.compile(rb"connection: *keep-alive\r\n", re.IGNORECASE)


class Proxy:
    """Passes bytes between a client and the server. The first connections for an event stream are each cut after so
    many bytes of the answer's body, wherever that falls, or behind what a pattern finds in the answer. `retry:` is
    shortened to 10 ms, so that tests need not wait."""

    def __init__(self, port: int, cuts: Iterable[int | bytes]) -> None:
        self.target = port
        self.port = 0
        self.requests: list[bytes] = []  # heads of the requests for event streams
        self.opened = asyncio.Event()  # an answer to a request for a stream has begun
        self.broken = asyncio.Event()  # a connection was cut
        self._cuts = list(cuts)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cuts_left(self) -> int:
        return len(self._cuts)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(_END)
                upstream, answer = await asyncio.open_connection("127.0.0.1", self.target)
                try:
                    if b"/stream?" in head.split(b"\r\n")[0]:
                        answer.write(head)
                        self.requests.append(head)
                        await self._stream(upstream, writer)
                    else:  # its connection shall not be used again, for a stream
                        answer.write(_KEEP_ALIVE.sub(b"Connection: close\r\n", head))
                        await asyncio.gather(_pass(upstream, writer), _pass(reader, answer))
                finally:
                    answer.transport.abort()
        finally:
            writer.transport.abort()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut = self._cuts.pop(0) if self._cuts else None
        passed = b""
        while chunk := await reader.read(1 << 16):
            before, passed = len(passed), passed + _RETRY.sub(b"retry: 0010\n", chunk)
            end = _place(cut, passed)
            writer.write(passed[before:end])
            await writer.drain()
            self.opened.set()
            if end is not None:
                self.broken.set()
                break
        writer.close()  # what was written goes out: the break is where it was planned


def _place(cut: int | bytes | None, passed: bytes) -> int | None:
    """Where the connection is to be cut, if it has come so far."""
    if isinstance(cut, bytes):
        found = re.search(cut, passed)
        return found.end() if found else None
    head = passed.find(_END)
    if cut is None or head < 0 or head + len(_END) + cut > len(passed):
        return None
    return head + len(_END) + cut


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxy(port: int, *cuts: int | bytes) -> AsyncIterator[Proxy]:
    """A proxy before the server on that port."""
    middle = Proxy(port, cuts)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        try:
            with suppress(asyncio.CancelledError):
                await middle.serve(reader, writer)
        finally:
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    middle.port = server.sockets[0].getsockname()[1]
    try:
        yield middle
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections)
        await server.wait_closed()


CUTS = (101, 317, 500, 233, 711)  # bytes of answers, as chunks: inside an event, whichever
COUNT = 80
EXPECTED = [*map(str, range(1, COUNT + 1))]


async def publish_numbers(url: str, topic: str) -> None:
    """1 to COUNT, one after the other."""
    async with http_client(url) as http:
        for number in EXPECTED:
            await publish(http, topic, number)


async def publish(http: httpx.AsyncClient, topic: str, body: str | bytes) -> str:
    """Publish; the id."""
    answer = await http.post(f"/topics/{topic}/messages", content=body)
    answer.raise_for_status()
    id: str = answer.json()["id"]
    return id


def resumed(middle: Proxy) -> bool:
    """Whether every planned break came, and every later connection but a first without an id sent its place."""
    return not middle.cuts_left and b"last-event-id: " in middle.requests[-1].lower()
