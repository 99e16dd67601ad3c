"""What tests share: a server process, a reader of event streams, a speaker of lines. Everything has a deadline."""

import asyncio
import codecs
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, Self, TypeVar

import httpx

from app.access.authenticator import AnonymousAccess, Authenticator
from app.messages.message import Draft, Envelope

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 20.0  # seconds: far beyond what anything here takes
_CHANCE: Final = SystemRandom()  # not that of `random`, which Hypothesis seeds alike everywhere
OPEN = Authenticator(AnonymousAccess.ANONYMOUS)  # asks nobody


def draft(topic: str, *bodies: bytes, delay: float | None = None, key: str | None = None, **options: Any) -> Draft:
    """`options`: of the Envelope."""
    return Draft(Envelope(topic, **options), [*bodies], delay, key)


def whole(slices: Generator[None, None, T]) -> T:
    """The answer of a question that is asked in slices, all at once."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            value: T = end.value
            return value


def take_nothing(port: int, request: bytes) -> socket.socket:
    """A client that asks, and reads nothing; the caller closes it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request)
    return sock


def free_port() -> int:
    """Below those that the system itself gives to others, which could have it before it is used."""
    while True:
        port = _CHANCE.randrange(10_000, 32_768)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def own_address() -> str | None:
    """An address of this machine that is not loopback: where a packet to elsewhere would come from; none is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("203.0.113.1", 9))
        except OSError:
            return None
        address: str = sock.getsockname()[0]
        return address


@contextmanager
def at_a_terminal(*flags: str) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    """A server whose standard streams are a terminal, which is closed once it has said all that it says at its start:
    the process, and that."""
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", *flags]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    ) as process:
        try:
            os.close(terminal)
            said = b""
            while not said.endswith(b"/stream\r\n"):  # the last of it
                said += os.read(ours, 1_000)
            os.close(ours)
            yield process, said
        finally:
            process.kill()


class ServerProcess:
    """A server as a child process."""

    def __init__(self, process: subprocess.Popen[str], port: int, tcp_port: int, banner: str) -> None:
        self.process = process
        self.host, self.port, self.tcp_port = "127.0.0.1", port, tcp_port
        self.url = f"{'https' if f'https://{self.host}:{port}' in banner else 'http'}://{self.host}:{self.port}"
        self.banner = banner

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the server and answer its exit status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def complaints(self) -> list[str]:
        """What it said after its start that is neither news nor the fault of a slow machine; to be asked when it has
        ended."""
        assert self.process.stderr
        return [line for line in self.process.stderr if " info " not in line and "the event loop stalled" not in line]

    def resident(self) -> int:
        """Bytes of memory the process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def file_of(self, number: int) -> str:
        """What the process has open under that number."""
        return str(Path(f"/proc/{self.process.pid}/fd/{number}").readlink())


@contextmanager
def start_server(
    *flags: str, port: int = 0, tcp_port: int | None = None, program: Sequence[str] = ("app",)
) -> Iterator[ServerProcess]:
    """`plainmq serve` with these flags; a tcp_port of 0 is none at all. `program`: the module that is run, and what it
    is told before."""
    tcp_port = free_port() if tcp_port is None else tcp_port
    command = ["-m", *program, "serve", "--port", str(port), "--tcp-port", str(tcp_port), *flags]
    with _child(command, {}) as process:
        over_tls = "--tcp-tls" in flags
        last = ("s_client" if over_tls else "telnet://") if tcp_port else "  subscribe"
        banner = _read_until(process, last, '"message":"listening"')
        yield ServerProcess(process, _port_in(banner), tcp_port, banner)


@contextmanager
def start_uvicorn() -> Iterator[ServerProcess]:
    """`uvicorn app.main:app`: the app over plain ASGI, without our protocol below it."""
    with start_uvicorn_with() as process:
        yield process


@contextmanager
def start_uvicorn_with(**variables: str) -> Iterator[ServerProcess]:
    """The same with these environment variables."""
    tcp_port = free_port()
    environment = {"PLAINMQ_TCP_PORT": str(tcp_port)} | variables
    with _child(["-m", "uvicorn", "app.main:app", "--port", "0"], environment) as process:
        banner = _read_until(process, "Uvicorn running")
        yield ServerProcess(process, _port_in(banner), tcp_port, banner)


@contextmanager
def _child(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *arguments]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE)
        assert process.stderr
        process.stderr.close()


def _read_until(process: subprocess.Popen[str], *lasts: str) -> str:
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if any(last in line for last in lasts):
            break
    return "".join(lines)


def _port_in(banner: str) -> int:
    match = re.search(r"https?://[^/\s\"]+:(\d+)", banner)
    assert match, f"the server did not start: {banner}"
    return int(match[1])


@dataclass
class SseEvent:
    """An event as WHATWG HTML section 9.2.6 dispatches it."""

    type: str
    data: str
    last_event_id: str


@dataclass
class SseParser:
    """The WHATWG algorithm to the letter (HTML section 9.2.6), with what else a stream says: comments and retry."""

    last_event_id: str = ""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)
    _buffer: str = ""
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("strict"))
    _started: bool = False
    _type: str = ""
    _data: str = ""
    id: str = ""

    def feed(self, chunk: bytes) -> list[SseEvent]:
        self._buffer += self._decoder.decode(chunk)
        if not self._started and self._buffer:
            self._started = True
            self._buffer = self._buffer.removeprefix("\ufeff")
        events = []
        while match := _LINE.match(self._buffer):
            if match[0].endswith("\r") and match.end() == len(self._buffer):
                break  # a line feed may follow
            self._buffer = self._buffer[match.end() :]
            if (event := self._line(match[1])) is not None:
                events.append(event)
        return events

    def _line(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
        elif name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id" and "\0" not in value:
            self.id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)
        return None

    def _dispatch(self) -> SseEvent | None:
        self.last_event_id = self.id
        data, self._data = self._data, ""
        kind, self._type = self._type, ""
        if not data:
            return None
        return SseEvent(kind or "message", data.removesuffix("\n"), self.last_event_id)


_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\n|\r)")


def screen_of(text: str) -> list[str]:
    """The lines of a text that fits a terminal of 24 by 80."""
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    return lines


class Stream:
    """One event stream over a socket of its own: the response's head, then events as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.parser = SseParser()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.place = ""  # of a reader that has no message yet: an EventSource keeps it, and its page need not listen
        self._events: list[SseEvent] = []
        self.ended_in_order = False

    async def open(self, path: str, headers: dict[str, str], behind: bytes = b"") -> Self:
        """Ask for the stream, and in the same breath for what is `behind` it."""
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in headers.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + behind)
        async with asyncio.timeout(DEADLINE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        status, *fields = head.rstrip().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {k.lower(): v for k, v in (f.split(": ", 1) for f in fields)}
        return self

    async def chunk(self) -> bytes:
        """One chunk of the body; empty at the end."""
        if self.headers.get("transfer-encoding") != "chunked":
            return await self._reader.read(65536)
        size = int(await self._reader.readline() or b"0", 16)
        chunk = (await self._reader.readexactly(size + 2))[:size]
        if not size:
            self.ended_in_order = True
        return chunk

    async def feed(self) -> None:
        """Parse one more chunk. The stream must not have ended."""
        chunk = await self.chunk()
        assert chunk, "the stream has ended"
        self.parser.feed(chunk)

    async def next(self) -> SseEvent | None:
        """The next event but `place`; None when the stream has ended."""
        async with asyncio.timeout(DEADLINE):
            while not self._events:
                chunk = await self.chunk()
                if not chunk:
                    return None
                self._events = self.waiting(chunk)
        return self._events.pop(0)

    def waiting(self, chunk: bytes) -> list[SseEvent]:
        """The events that the chunk ends, but `place`."""
        return [event for event in self.parser.feed(chunk) if not self._is_place(event)]

    def _is_place(self, event: SseEvent) -> bool:
        if event.type == "place":
            self.place = event.last_event_id
        return event.type == "place"

    async def take(self, count: int) -> list[SseEvent]:
        events = [await self.next() for _ in range(count)]
        assert None not in events, "the stream ended early"
        return [event for event in events if event is not None]

    async def data(self, count: int) -> list[str]:
        return [event.data for event in await self.take(count)]


@asynccontextmanager
async def stream(server: ServerProcess, path: str, **headers: str) -> AsyncIterator[Stream]:
    """An open event stream; header names are given with underscores."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 24)
    try:
        yield await Stream(reader, writer).open(path, {k.replace("_", "-"): v for k, v in headers.items()})
    finally:
        writer.close()


TRUSTS_NOBODY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading who may be trusted takes 20 ms a client


def http_client(url: str = "", *, timeout: float = DEADLINE, **options: Any) -> httpx.AsyncClient:
    """One for the HTTP port of the server of that URL; without TLS, unless `verify` says whom to trust."""
    return httpx.AsyncClient(**{"verify": TRUSTS_NOBODY} | options, base_url=url, timeout=timeout)


class Lines:
    """A connection to the line port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *lines: str | bytes) -> None:
        for line in lines:
            self.writer.write(line if isinstance(line, bytes) else line.encode() + b"\n")

    async def next(self) -> bytes:
        """The next line with its end; empty when the server has closed."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readline()

    async def take(self, count: int) -> list[bytes]:
        return [await self.next() for _ in range(count)]

    async def synchronise(self) -> None:
        """Return when the server has done everything sent so far."""
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
