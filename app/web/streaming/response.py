"""A stream of server-sent events, whoever writes them: a reader of the log, or a worker of a group.

Under our own protocol the response hands the connection over: the bytes go straight to the socket and no task is left
behind. Under any other ASGI server it streams as sse-starlette does. Both write the same events.
"""

from asyncio import Event, Transport, current_task
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from socket import socket
from typing import Final, Generic, Protocol, TypeVar

import anyio
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from ...access.authenticator import AuthSession
from ...broker.broker import Broker
from ...fanout.sink import Sink
from ...net.progress import ALL, Progress, another_hold, progress
from ..middleware.access_log import exchange
from ..sse import STREAM_HEADERS, Encoders, farewell, hello
from .lifetime import REVOKED, StreamLifetime
from .takeover import REQUEST, Request, Subscription, connection_of, until_closed

GRACE: Final = 5.0  # seconds that a stream has for its farewell when a foreign server stops
DRAIN_SPREAD: Final = 4.0  # seconds of them within which all streams get it
HIGH_WATER: Final = 64 << 10  # bytes that may wait for an ASGI server before its reader is held, as a transport does


class Timed(Subscription, Protocol):
    """A Reader or a Worker."""

    def end_in(self, seconds: float, reason: str) -> None: ...


F = TypeVar("F")
S = TypeVar("S", bound=Timed)


class EventStream(EventSourceResponse, Generic[F, S]):
    def __init__(
        self,
        broker: Broker,
        forms: Encoders[F],
        subscribe: Callable[[F, Sink], S],
        start: Callable[[S], None],
        stay: StreamLifetime,
        *,
        place: str,
    ) -> None:
        """`subscribe` is called before anything is sent, and `start` once the sink takes bytes. `place`: the id that
        its reader shall come back with, until it is told another."""
        super().__init__(
            _nothing(),
            headers=STREAM_HEADERS,
            sep="\n",
            ping=0,  # the broker's keep-alive comments are for these streams too
            shutdown_event=_Drain(broker),
            shutdown_grace_period=GRACE,
        )
        del self.headers["connection"]  # whether it stays open is known to the server only
        self._broker = broker
        self._forms = forms
        self._subscribe = subscribe
        self._start = start
        self._stay = stay
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what `subscribe` raises before anything is sent."""
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
        sink.place = self._place
        subscription = self._subscribe(self._forms.chunked, sink)
        request.take_over(sink, subscription, partial(self._begin, sink, subscription))

    def _begin(self, guest: AuthSession, subscription: S) -> None:
        self._stay.begin(guest, subscription)
        self._start(subscription)

    async def _send_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = exchange(scope)
        server = (seen and seen.receive) or receive
        connection = connection_of(server)
        cut = connection.abort if connection else _canceller()
        if scope["http_version"] != "1.1":
            send = until_closed(server, send)
        buffer = Buffer(hello(self._broker.pressure, self._place), self._broker, cut, connection)
        subscription = self._subscribe(self._forms.plain, buffer)
        buffer.subscription = subscription
        try:
            self._begin(buffer, subscription)
            self.body_iterator = buffer.parts()
            await super().__call__(scope, receive, send)
        finally:
            buffer.close()
            subscription.detach()
            self._stay.authenticator.unregister(buffer)
            if seen:
                seen.why = buffer.why


def _from_a_page(scope: Scope) -> bool:
    """Then the app may have headers to add for its browser (CORS), which only ASGI can."""
    return any(name == b"origin" for name, _ in scope["headers"])


def _canceller() -> Callable[[], object]:
    """Nothing of ASGI ends a response whose client takes nothing but the end of its task."""
    task = current_task()
    assert task is not None
    return task.cancel


async def _nothing() -> AsyncIterator[bytes]:
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk


class _Drain(anyio.Event):
    """What sse-starlette sets when a server that does not know our broker is stopping: then the broker drains."""

    def __new__(cls, _broker: Broker) -> "_Drain":
        return object.__new__(cls)

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def set(self) -> None:
        self._broker.drain(DRAIN_SPREAD)

    def is_set(self) -> bool:
        return self._broker.draining


class Buffer:
    """A sink for ASGI: what was written, until the server asks for it. When it is full the subscription is held."""

    def __init__(
        self, first: bytes, broker: Broker, cut: Callable[[], object], connection: Transport | None = None
    ) -> None:  # fmt: skip
        """`cut` ends the response, whatever the server is sending. `connection`: the server's, where it is known."""
        self.subscription: Subscription | None = None
        self._broker = broker
        self._cut = cut
        self._parts: list[bytes] = [first]
        self._size = 0
        self._sent = 0  # bytes that the server is sending
        self._passed = 0  # bytes that it has sent
        self._taken = 0  # bytes that the other side has
        self._marks: deque[tuple[int, int]] = deque()
        self._hold: socket | None = None  # on the connection's socket, to see who has what when it is gone
        self._connection = connection
        self._last: Progress | None = None  # when the response was over
        self._ended = False
        self.why = ""
        self._news = Event()

    async def parts(self) -> AsyncIterator[bytes]:
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            batch, self._parts, self._size = b"".join(self._parts), [], 0
            if batch:
                self._sent = len(batch)
                yield batch
                self._sent_part()
            if self._ended and not self._parts:
                return
            if self.subscription is not None:
                self.subscription.resume()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        self._news.set()
        if self._size > HIGH_WATER and self.subscription is not None:
            self.subscription.pause()

    def pending(self) -> int:
        return self._size

    def progress(self) -> Progress:
        if self._last is not None:
            return self._last
        if self._connection is None:
            return Progress(self._passed, self._size + self._sent)
        self._hold = self._hold or another_hold(self._connection)
        known = self._mark(self._connection)
        here, below = self._size + self._sent, self._passed - self._taken
        return (
            Progress(self._taken, here + below, 0, known.open)
            if known.waiting
            else Progress(self._taken, here, below, known.open)
        )

    def _mark(self, connection: Transport) -> Progress:
        """The other side has so many bytes of ours when it has so many of the connection, which has some of its own."""
        known = progress(connection, self._hold)
        if known.open and (not self._marks or self._marks[-1][1] < self._passed):
            self._marks.append((known.end, self._passed))
        while self._marks and self._marks[0][0] <= known.taken:
            self._taken = self._marks.popleft()[1]
        return known

    def _sent_part(self) -> None:
        """By the server, unless the client has left."""
        if self._connection is None or not self._connection.is_closing():
            self._passed, self._sent = self._passed + self._sent, 0
            if self._connection is not None and self._hold is not None:
                self._mark(self._connection)

    def close(self) -> None:
        """The response is over."""
        self._last = ALL if self._ended and not (self._parts or self._sent) else self.progress().last
        if self._hold is not None:
            self._hold.close()

    def end(self, reason: str) -> None:
        self.write(farewell(reason, self._broker.pressure))
        self._ended, self.why = True, self.why or reason

    def revoke(self) -> None:
        if self.subscription is not None:
            self.subscription.end(REVOKED)

    def abort(self) -> None:
        self.why = "cut_off"
        if self.subscription is not None:
            self.subscription.detach()
        self._cut()
