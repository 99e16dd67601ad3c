"""Many subscribers of event streams in one process, as asyncio protocols, with the messages that each received."""

import asyncio
import re
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import httpx

from tests.harness import DEADLINE, ServerProcess

MAX_CONNECTING = 100  # connections that are being opened at the same time
_EVENT = re.compile(rb"id: [a-z0-9]+-(\d+)\ndata: [^\n]*\n\n")
_LAST_ID = re.compile(rb"id: ([a-z0-9]+-\d+)\n")


@contextmanager
def raised_file_limit() -> Iterator[int]:
    """Raise the limit of open files to the hard limit, within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class StreamSubscriber(asyncio.Protocol):
    """A subscriber of a raw stream with bodies of one line. `seqs` and the rest are of all its connections."""

    def __init__(self, server: ServerProcess, path: str) -> None:
        self.seqs: list[int] = []
        self.last_id = b""
        self.gaps = 0
        self.reconnect_time = False  # a `bye` event with `retry` was received
        self.ended_cleanly = False  # the last chunk was received
        self._server = server
        self._path = path
        self._tail = b""
        self._changed = asyncio.Event()

    async def connect(self) -> "StreamSubscriber":
        """Open the stream, again if that fails, after the last message that was received. Returns once it is open."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            self._tail, self.ready, self.lost = b"", False, False
            try:
                await loop.create_connection(lambda: self, self._server.host, self._server.port)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            while not (self.ready or self.lost):
                await self._changed.wait()
                self._changed.clear()
            if self.ready:
                return self

    def abort(self) -> None:
        self.transport.abort()

    async def wait_for(self, seq: int) -> None:
        """Return when that message, or a later one, was received. Raises ConnectionError if the connection ends."""
        while not self.seqs or self.seqs[-1] < seq:
            if self.lost:
                raise ConnectionError(f"disconnected after {self.seqs[-1:]}, before {seq}")
            self._changed.clear()
            await self._changed.wait()

    async def wait_closed(self) -> None:
        while not self.lost:
            self._changed.clear()
            await self._changed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        position = b"Last-Event-ID: %b\r\n" % self.last_id if self.last_id else b""
        self.transport.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (self._path.encode(), position))

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
            self.reconnect_time = self.reconnect_time or (b"event: bye\n" in whole and b"retry: " in whole)
        self.ended_cleanly = self._tail.endswith(b"0\r\n\r\n")
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True
        self._changed.set()


async def connect_subscribers(
    server: ServerProcess, count: int, path: str = "/topics/foo/stream"
) -> list[StreamSubscriber]:
    """Connect `count` subscribers, and wait until all streams are open."""
    subscribers: list[StreamSubscriber] = []
    for first in range(0, count, MAX_CONNECTING):
        batch = [StreamSubscriber(server, path) for _ in range(min(MAX_CONNECTING, count - first))]
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(subscriber.connect() for subscriber in batch))
        subscribers += batch
    return subscribers


def delivery_faults(subscribers: Sequence[StreamSubscriber], first: int, last: int) -> dict[str, int]:
    """Counts of what is wrong: each must have received every message from `first` to `last`, once, in order."""
    expected = [*range(first, last + 1)]
    found = {
        "wrong": sum(subscriber.seqs != expected for subscriber in subscribers),
        "missing": sum(len(set(expected) - set(subscriber.seqs)) for subscriber in subscribers),
        "twice": sum(len(subscriber.seqs) - len(set(subscriber.seqs)) for subscriber in subscribers),
        "gaps": sum(subscriber.gaps for subscriber in subscribers),
    }
    return {name: count for name, count in found.items() if count}


def open_stalled(
    port: int, request: bytes = b"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
) -> socket.socket:
    """Open a connection that sends a request and never reads, with a small receive buffer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request)
    return sock


async def publish(http: httpx.AsyncClient, body: bytes = b"x", topic: str = "foo") -> int:
    """Publish a message, and return its seq."""
    answer = (await http.post(f"/topics/{topic}/messages", content=body)).raise_for_status()
    return int(answer.json()["id"].rpartition("-")[2])


async def metric(http: httpx.AsyncClient, name: str) -> float:
    """The sum of a metric over all its labels. `name` is a regular expression."""
    text = (await http.get("/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))
