"""GET /topics/{topic}/stream: server-sent events, from any place of the log to live.

Under our own protocol the response hands the connection over: the reader's bytes go straight to the socket and no task
is left behind. Under any other ASGI server it streams as sse-starlette does. Both write the same events.
"""

from asyncio import Event, Task, current_task
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import anyio
from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..broker import Broker
from ..cohort import Reader
from ..frames import CHUNKED_JSON, CHUNKED_RAW, SSE_JSON, SSE_RAW, control, farewell, retry_delay
from ..message import parse_id
from ..position import LATEST, After, Start, parse_start
from ..topic import Selector
from . import protocol
from .options import Parser, choice, duration, integer, read_options

GRACE: Final = 5.0  # seconds that a stream has for its farewell when a foreign server stops
HIGH_WATER: Final = 64 << 10  # bytes that may wait for an ASGI server before its reader is held, as a transport does

_PLAIN = {"raw": SSE_RAW, "json": SSE_JSON}
_CHUNKED = {"raw": CHUNKED_RAW, "json": CHUNKED_JSON}
_HEADERS = {"Content-Type": "text/event-stream"}


def _after(text: str) -> Start:
    return After(parse_id(text))


_OPTIONS: dict[str, Parser] = {
    "since": parse_start,
    "last_event_id": _after,
    "format": choice("format", {"raw": "raw", "json": "json"}),
    "limit": integer("limit", 1, 1_000_000),
    "timeout": duration("timeout", 3_600.0),
}


async def stream_topic(request: Request) -> Response:
    """One topic, or the topics that a pattern matches."""
    return _stream(request, Selector([request.path_params["topic"]]), read_options(request, _OPTIONS))


async def stream_topics(request: Request) -> Response:
    """Several topics and patterns, in the order of the log."""
    options = read_options(request, _OPTIONS, repeatable=["topic"])
    return _stream(request, Selector(request.query_params.getlist("topic")), options)


def _stream(request: Request, selector: Selector, options: Mapping[str, Any]) -> Response:
    single = len(selector.topics) == 1 and not selector.patterns
    form = options.get("format", "raw" if single else "json")
    stream = EventStream(request.app.state.broker, selector, form, _start(request, options))
    stream.limit, stream.timeout = options.get("limit"), options.get("timeout")
    return stream


def _start(request: Request, options: Mapping[str, Any]) -> Start:
    """A header before the query, because a browser that comes back sends the place it has reached in the header."""
    if header := request.headers.get("last-event-id"):
        return _after(header.strip(" \t"))  # RFC 9110, section 5.5; the parser leaves it on
    start: Start = options.get("last_event_id") or options.get("since", LATEST)
    return start


class EventStream(EventSourceResponse):
    def __init__(self, broker: Broker, selector: Selector, form: str, start: Start) -> None:
        super().__init__(
            _nothing(), headers=_HEADERS, sep="\n", shutdown_event=_Drain(broker), shutdown_grace_period=GRACE
        )
        self._broker = broker
        self._selector = selector
        self._form = form
        self._start = start
        self.limit: int | None = None  # messages after which the stream ends
        self.timeout: float | None = None  # seconds after which it ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Draining or SubscriberLimit before anything is sent."""
        request: protocol.Request | None = scope.get("extensions", {}).get(protocol.REQUEST)
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
        elif request is not None and scope["http_version"] == "1.1":
            if not request.gone:
                self._hand_over(request)
        else:
            await self._send_through(scope, receive, send)

    def _hand_over(self, request: protocol.Request) -> None:
        form = _CHUNKED[self._form]
        connection = request.connection
        reader = self._broker.subscribe(self._selector, form, connection, aging=True, limit=self.limit)
        connection.hold(request, reader, self.raw_headers, form.wrap([_hello()]))
        self._begin(reader)

    def _begin(self, reader: Reader) -> None:
        if self.timeout is not None:
            reader.end_in(self.timeout)
        reader.start(self._start)

    async def _send_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        buffer = Buffer(_hello(), current_task())
        form = _PLAIN[self._form]
        reader = self._broker.subscribe(self._selector, form, buffer, aging=True, limit=self.limit)
        buffer.reader = reader
        try:
            self._begin(reader)
            self.body_iterator = buffer.parts()
            await super().__call__(scope, receive, send)
        finally:
            reader.close()


def _hello() -> bytes:
    return control(comment="plainmq", retry=retry_delay())


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


class _Drain(anyio.Event):
    """What sse-starlette sets when a server that does not know our broker is stopping: then the broker drains."""

    def __new__(cls, _broker: Broker) -> "_Drain":
        return object.__new__(cls)

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def set(self) -> None:
        self._broker.drain()

    def is_set(self) -> bool:
        return self._broker.draining


class Buffer:
    """A sink for ASGI: what was written, until the server asks for it. When it is full its reader is held."""

    def __init__(self, first: bytes, task: "Task[Any] | None") -> None:
        self.reader: Reader | None = None
        self._task = task  # the response's
        self._parts: list[bytes] = [first]
        self._size = 0
        self._ended = False
        self._news = Event()

    async def parts(self) -> AsyncIterator[bytes]:
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            batch, self._parts, self._size = b"".join(self._parts), [], 0
            if batch:
                yield batch
            if self._ended and not self._parts:
                return
            if self.reader is not None:
                self.reader.resume()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        self._news.set()
        if self._size > HIGH_WATER and self.reader is not None:
            self.reader.pause()

    def pending(self) -> int:
        return self._size

    def end(self, reason: str) -> None:
        self.write(farewell(reason))
        self._ended = True

    def abort(self) -> None:
        """Whatever the server is sending takes no more: only the end of its task ends it."""
        if self.reader is not None:
            self.reader.close()
        if self._task is not None:
            self._task.cancel()
