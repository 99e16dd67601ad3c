"""A client of event streams: a parser of server-sent events, and a stream over its own socket."""

import asyncio
import codecs
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from tests.harness import DEADLINE, ServerProcess


@dataclass
class SseEvent:
    """An event as WHATWG HTML section 9.2.6 dispatches it."""

    type: str
    data: str
    last_event_id: str


@dataclass
class SseParser:
    """The parser of WHATWG HTML section 9.2.6 to the letter. It also records comments and the reconnection time."""

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


class Stream:
    """An event stream over its own socket: the head of the response, then the events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.parser = SseParser()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.place = ""  # the id of the last `place` event, from which an EventSource without a message reconnects
        self._events: list[SseEvent] = []
        self.ended_in_order = False

    async def open(self, path: str, headers: dict[str, str], behind: bytes = b"") -> Self:
        """Send the request, followed by the bytes `behind` in the same write."""
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
        """The next event, except `place` events. None when the stream has ended."""
        async with asyncio.timeout(DEADLINE):
            while not self._events:
                chunk = await self.chunk()
                if not chunk:
                    return None
                self._events = self.waiting(chunk)
        return self._events.pop(0)

    def waiting(self, chunk: bytes) -> list[SseEvent]:
        """The events that are complete with this chunk, except `place` events."""
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
    """An open event stream. Header names are given with underscores."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 24)
    try:
        yield await Stream(reader, writer).open(path, {k.replace("_", "-"): v for k, v in headers.items()})
    finally:
        writer.close()
