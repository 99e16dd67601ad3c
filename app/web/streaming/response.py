"""The response that is a stream of server-sent events, for a subscriber of topics or a push consumer of a group.

Under plainmq's own protocol the response hands the connection over: the bytes go straight to the socket, and no task
stays behind. Under any other ASGI server it streams through sse-starlette. The events are the same.
"""

from asyncio import Event, Future, Transport, current_task, wait
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from socket import socket
from typing import Any, Final, Generic, Protocol, TypeVar

import anyio
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from ...access.sessions import AuthSession
from ...broker.broker import Broker
from ...fanout.sink import Sink
from ...net.progress import ALL, Progress, duplicate_socket, progress
from ..middleware.access_log import access_record
from ..sse import STREAM_HEADERS, Encoders, end_event, stream_start
from .lifetime import REVOKED, StreamLifetime
from .takeover import REQUEST, Request, Subscription, connection_of, until_closed

GRACE: Final = 5.0  # seconds that a stream has to end when another ASGI server stops
DRAIN_SPREAD: Final = 4.0  # seconds of GRACE over which the ends of all streams are spread
HIGH_WATER: Final = (
    64 << 10
)  # bytes that may wait for the ASGI server before the subscription is paused; a transport's own limit


class Timed(Subscription, Protocol):
    """A Subscriber or a PushConsumer."""

    def end_in(self, seconds: float, reason: str) -> None: ...


F = TypeVar("F")
S = TypeVar("S", bound=Timed)


class EventStream(EventSourceResponse, Generic[F, S]):
    def __init__(
        self,
        broker: Broker,
        encoders: Encoders[F],
        subscribe: Callable[[F, Sink], S],
        start: Callable[[S], "Future[Any] | None"],
        lifetime: StreamLifetime,
    ) -> None:
        """`subscribe` is called before anything is sent, and `start` once the sink takes bytes. The response begins
        when its future is done."""
        super().__init__(
            _nothing(),
            headers=STREAM_HEADERS,
            sep="\n",
            ping=0,  # the broker writes keep-alive comments to all streams
            shutdown_event=_Drain(broker),
            shutdown_grace_period=GRACE,
        )
        del self.headers["connection"]  # only the server knows whether the connection persists
        self._broker = broker
        self._encoders = encoders
        self._subscribe = subscribe
        self._start = start
        self._lifetime = lifetime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what `subscribe` raises, before anything is sent."""
        request: Request | None = scope.get("extensions", {}).get(REQUEST)
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
        elif request is not None and scope["http_version"] == "1.1" and not _from_a_page(scope):
            if not request.gone:
                self._hand_over(request)
        else:
            await self._send_through(scope, receive, send)

    def _hand_over(self, request: Request) -> None:
        sink = request.connection.sink()
        sink.resume_id = self._lifetime.resume_id
        with self._lifetime.spending(sink):
            subscription = self._subscribe(self._encoders.chunked, sink)
        request.take_over(sink, subscription, partial(self._begin, sink, subscription))

    def _begin(self, session: AuthSession, subscription: S) -> "Future[Any] | None":
        self._lifetime.begin(session, subscription)
        return self._start(subscription)

    async def _send_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = access_record(scope)
        server = (record and record.server_receive) or receive
        connection = connection_of(server)
        abort = connection.abort if connection else _canceller()
        if scope["http_version"] != "1.1":
            send = until_closed(server, send)
        head = stream_start(self._broker.admission.pressure, self._lifetime.resume_id)
        buffer = Buffer(head, self._broker, abort, connection)
        with self._lifetime.spending(buffer):
            subscription = self._subscribe(self._encoders.plain, buffer)
        buffer.subscription = subscription
        try:
            if first := self._begin(buffer, subscription):
                await wait([first])
            self.body_iterator = buffer.parts()
            await super().__call__(scope, receive, send)
        finally:
            buffer.close()
            subscription.detach()
            self._lifetime.authenticator.unregister(buffer, lost=not buffer.ended)
            if record:
                record.end_reason = buffer.end_reason


def _from_a_page(scope: Scope) -> bool:
    """True for a request of a browser's page: the CORS middleware may add headers, which only ASGI can do."""
    return any(name == b"origin" for name, _ in scope["headers"])


def _canceller() -> Callable[[], object]:
    """Cancels the response's task: ASGI has no other way to end a response whose client does not read."""
    task = current_task()
    assert task is not None
    return task.cancel


async def _nothing() -> AsyncIterator[bytes]:
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk


class _Drain(anyio.Event):
    """The event that sse-starlette sets when another ASGI server stops: the broker drains then."""

    def __new__(cls, _broker: Broker) -> "_Drain":
        return object.__new__(cls)

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def set(self) -> None:
        self._broker.drain(DRAIN_SPREAD)

    def is_set(self) -> bool:
        return self._broker.admission.draining


class Buffer:
    """A sink for ASGI: it holds what was written until the server asks for it. When it is full, the subscription is
    paused."""

    def __init__(
        self, first: bytes, broker: Broker, abort_response: Callable[[], object], connection: Transport | None = None
    ) -> None:  # fmt: skip
        """`abort_response` ends the response even while the server is sending. `connection`: the server's, if known."""
        self.subscription: Subscription | None = None
        self._broker = broker
        self._abort_response = abort_response
        self._parts: list[bytes] = [first]
        self._size = 0
        self._sending = 0  # bytes that the server is sending
        self._sent_total = 0  # bytes that it has sent
        self._acknowledged = 0  # bytes that the peer has acknowledged
        self._marks: deque[tuple[int, int]] = deque()
        self._hold: socket | None = None  # keeps the socket open, to read the peer's acknowledgements after the end
        self._connection = connection
        self._last: Progress | None = None  # at the end of the response
        self.ended = False
        self.end_reason = ""
        self._wakeup = Event()

    async def parts(self) -> AsyncIterator[bytes]:
        self._wakeup.set()
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            batch, self._parts, self._size = b"".join(self._parts), [], 0
            if batch:
                self._sending = len(batch)
                yield batch
                self._on_part_sent()
            if self.ended and not self._parts:
                return
            if self.subscription is not None:
                self.subscription.resume()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        self._wakeup.set()
        if self._size > HIGH_WATER and self.subscription is not None:
            self.subscription.pause()

    def pending(self) -> int:
        return self._size

    def progress(self) -> Progress:
        if self._last is not None:
            return self._last
        if self._connection is None:
            return Progress(self._sent_total, self._size + self._sending)
        self._hold = self._hold or duplicate_socket(self._connection)
        known = self._mark(self._connection)
        here, below = self._size + self._sending, self._sent_total - self._acknowledged
        return (
            Progress(self._acknowledged, here + below, 0, known.open)
            if known.waiting
            else Progress(self._acknowledged, here, below, known.open)
        )

    def _mark(self, connection: Transport) -> Progress:
        """Map acknowledged bytes of the connection to bytes of this sink: the server writes some of its own."""
        known = progress(connection, self._hold)
        if known.open and (not self._marks or self._marks[-1][1] < self._sent_total):
            self._marks.append((known.end, self._sent_total))
        while self._marks and self._marks[0][0] <= known.taken:
            self._acknowledged = self._marks.popleft()[1]
        return known

    def _on_part_sent(self) -> None:
        """The server has sent the part, unless the client has disconnected."""
        if self._connection is None or not self._connection.is_closing():
            self._sent_total, self._sending = self._sent_total + self._sending, 0
            if self._connection is not None and self._hold is not None:
                self._mark(self._connection)

    def close(self) -> None:
        """The response is over."""
        self._last = ALL if self.ended and not (self._parts or self._sending) else self.progress().last
        if self._hold is not None:
            self._hold.close()

    def end(self, reason: str) -> None:
        self.write(end_event(reason, self._broker.admission.pressure))
        self.ended, self.end_reason = True, self.end_reason or reason

    def revoke(self) -> None:
        if self.subscription is not None:
            self.subscription.end(REVOKED)

    def abort(self) -> None:
        self.end_reason = "cut_off"
        if self.subscription is not None:
            self.subscription.detach()
        self._abort_response()
