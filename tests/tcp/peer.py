"""A line port in this process, and clients that use it over real sockets. Every read has a deadline."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

from app.access.authenticator import Authenticator
from app.broker.broker import Broker, Timing
from app.log.topic_log import Limits, Retention
from app.storage.clock import Clock
from app.storage.engine import Engine
from app.storage.memory import MemoryEngine
from app.tcp.connection import Connection, Session
from app.tcp.listener import LineListener
from app.tcp.session import LineSession
from tests.harness import OPEN

DEADLINE = 20.0  # seconds: far longer than any step here takes
MAX_LINE = 3 << 19
MAX_MESSAGE = 1 << 20
DONE = b'{"success": true}\r\n'
PARSE, UTF8, MALFORMED = (
    b'{"success": false, "reason": "%b"}\r\n' % reason
    for reason in (b"Could not parse json", b"Could not decode input as UTF-8", b"Malformed json message")
)


class Peer:
    """One connection to the line port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.deadline = DEADLINE

    def send(self, *lines: str | bytes) -> None:
        """Send text as lines, and bytes unchanged."""
        self.writer.writelines(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines)

    def stop_reading(self) -> None:
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def read_again(self) -> None:
        cast(asyncio.Transport, self.writer.transport).resume_reading()

    async def line(self) -> bytes:
        """The next line with its line end; empty if the server has closed the connection."""
        async with asyncio.timeout(self.deadline):
            return await self.reader.readline()

    async def lines(self, count: int) -> list[bytes]:
        return [await self.line() for _ in range(count)]

    async def rest(self) -> bytes:
        """All bytes until the server closes the connection."""
        async with asyncio.timeout(self.deadline):
            return await self.reader.read()

    async def ask(self, *lines: str | bytes) -> bytes:
        """Send, and return the next line."""
        self.send(*lines)
        return await self.line()

    async def do(self, *lines: str) -> None:
        """Send lines of the JSON dialect; each must succeed."""
        for line in lines:
            assert await self.ask(line) == DONE

    async def synchronise(self) -> list[bytes]:
        """The lines that have arrived once all lines sent so far are handled."""
        self.send("ping")
        lines = []
        while (line := await self.line()) != b"OK pong\r\n":
            assert line, "the server has closed"
            lines.append(line)
        return lines

    async def assert_quiet(self) -> None:
        """No line has arrived, except the reply to a ping sent now."""
        assert await self.synchronise() == []


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@dataclass
class Port:
    """A running line port."""

    broker: Broker
    number: int

    def connect(self) -> AbstractAsyncContextManager[Peer]:
        return connect(self.number)

    @asynccontextmanager
    async def peers(self, count: int) -> AsyncIterator[list[Peer]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.connect()) for _ in range(count)]


def bound_socket(send_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    sock.bind(("127.0.0.1", 0))
    return sock


class ObservedConnection(Connection):
    """A connection whose transport can be asked how full it is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        super().connection_made(transport)


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    *,
    engine: Engine | None = None,
    timing: Timing | None = None,
    max_subscribers: int = 10_000,
    max_clients: int = 20_000,
    max_line: int = MAX_LINE,
    max_message: int = MAX_MESSAGE,
    send_buffer: int = 0,
    session: Callable[[Broker], Session] | None = None,
    authenticator: Authenticator = OPEN,
    auth_timeout: float = 10.0,
) -> AsyncIterator[Port]:
    engine = engine or MemoryEngine(limits or Limits(), Clock())
    sock = bound_socket(send_buffer)
    number: int = sock.getsockname()[1]
    async with Broker(engine, timing or Timing(), max_subscribers) as broker:

        def connect() -> Connection:
            if session is not None:
                return ObservedConnection(session(broker), max_line)
            return ObservedConnection(LineSession(broker, max_message, authenticator, auth_timeout), max_line)

        async with LineListener([sock], connect, max_clients):
            yield Port(broker, number)


def keeping(messages: int) -> Limits:
    """A retention of so many messages per topic."""
    return Limits(retention=Retention(max_messages=messages))


def send(topic: str, msg: str, delivery: str = "all") -> str:
    """A send in the JSON dialect. The text must not need escapes."""
    return f'{{"command":"send","topic":"{topic}","msg":"{msg}","delivery":"{delivery}"}}'


def delivered(topic: str, msg: str, index: int, delivery: str = "all") -> bytes:
    """That message as a JSON subscriber receives it."""
    line = f'{{"command":"send","topic":"{topic}","msg":"{msg}","delivery":"{delivery}","index":{index}}}\r\n'
    return line.encode()


def subscribe(topic: str, more: str = "") -> str:
    """A subscribe in the JSON dialect; `more` begins with a comma."""
    return f'{{"command":"subscribe","topic":"{topic}"{more}}}'
