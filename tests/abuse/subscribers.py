"""Many readers of event streams in this process, as plain protocols: what each got, over all its connections."""

import asyncio
import re
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import httpx

from tests.harness import DEADLINE, ServerProcess

ABREAST = 100  # connections that are being opened at once
_EVENT = re.compile(rb"id: [a-z0-9]+-(\d+)\ndata: [^\n]*\n\n")
_LAST_ID = re.compile(rb"id: ([a-z0-9]+-\d+)\n")


@contextmanager
def many_files() -> Iterator[int]:
    """As many open files as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Reader(asyncio.Protocol):
    """A reader of a topic in the raw form, with short bodies of one line."""

    def __init__(self, server: ServerProcess, path: str) -> None:
        self.seqs: list[int] = []
        self.last_id = b""
        self.gaps = 0
        self.bye = False  # with a time to come back
        self.ended_in_order = False
        self._server = server
        self._path = path
        self._tail = b""
        self._wanted = 0
        self._news = asyncio.Event()

    async def connect(self) -> "Reader":
        """Until the stream is there, at the place where the last one ended."""
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            self._tail, self.ready, self.lost = b"", False, False
            try:
                await loop.create_connection(lambda: self, self._server.host, self._server.port)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            while not (self.ready or self.lost):
                await self._news.wait()
                self._news.clear()
            if self.ready:
                return self

    def cut(self) -> None:
        self.transport.abort()

    async def until(self, seq: int) -> None:
        """Return when it has that message, or one behind it. Raises ConnectionError when it is cut off before."""
        while not self.seqs or self.seqs[-1] < seq:
            if self.lost:
                raise ConnectionError(f"cut off at {self.seqs[-1:]}, before {seq}")
            self._news.clear()
            await self._news.wait()

    async def until_lost(self) -> None:
        while not self.lost:
            self._news.clear()
            await self._news.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        place = b"Last-Event-ID: %b\r\n" % self.last_id if self.last_id else b""
        self.transport.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (self._path.encode(), place))

    def data_received(self, data: bytes) -> None:
        text = self._tail + data
        whole, end, self._tail = text.rpartition(b"\n\n")
        whole += end
        if whole:
            self.ready = self.ready or b"\nretry: " in whole
            self.seqs += [int(seq) for seq in _EVENT.findall(whole)]
            if ids := _LAST_ID.findall(whole):
                self.last_id = ids[-1]
            self.gaps += whole.count(b"event: gap\n")
            self.bye = self.bye or (b"event: bye\n" in whole and b"retry: " in whole)
        self.ended_in_order = self._tail.endswith(b"0\r\n\r\n")
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True
        self._news.set()


async def gather(server: ServerProcess, count: int, path: str = "/topics/foo/stream") -> list[Reader]:
    """So many readers, each of whom has its place."""
    readers: list[Reader] = []
    for first in range(0, count, ABREAST):
        some = [Reader(server, path) for _ in range(min(ABREAST, count - first))]
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(reader.connect() for reader in some))
        readers += some
    return readers


def faults(readers: Sequence[Reader], first: int, last: int) -> dict[str, int]:
    """What is wrong with what they got: each must have every message from the first to the last one, once, in order."""
    expected = [*range(first, last + 1)]
    found = {
        "wrong": sum(reader.seqs != expected for reader in readers),
        "missing": sum(len(set(expected) - set(reader.seqs)) for reader in readers),
        "twice": sum(len(reader.seqs) - len(set(reader.seqs)) for reader in readers),
        "gaps": sum(reader.gaps for reader in readers),
    }
    return {name: count for name, count in found.items() if count}


def stalled(port: int, request: bytes = b"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n") -> socket.socket:
    """A client that asks, and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request)
    return sock


async def publish(http: httpx.AsyncClient, body: bytes = b"x", topic: str = "foo") -> int:
    """A message's seq."""
    answer = (await http.post(f"/topics/{topic}/messages", content=body)).raise_for_status()
    return int(answer.json()["id"].rpartition("-")[2])


async def numbers(http: httpx.AsyncClient, name: str) -> float:
    """The sum of a metric over its labels."""
    text = (await http.get("/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))
