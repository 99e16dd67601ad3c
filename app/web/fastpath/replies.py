"""Pending replies: responses that are written without ASGI. Each takes the place of uvicorn's current request cycle, so
that pipelined requests wait behind it and a shutdown lets it finish.
"""

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Event, Transport
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from ...broker.broker import Broker
from ...errors import Draining, PlainmqError, Refused
from ...messages.message import Draft, Receipt
from ...telemetry.accesslog import address
from ..middleware.access_log import code_of, named
from ..middleware.forwarded import Caller
from ..problem import response_to
from . import raw_responses, requests
from .context import ServerContext

CREATED: Final = 201  # a number: members of an enum are slow to look up, and slower as keys


class ReplyConnection(Protocol):
    """The connection, as its replies see it."""

    broker: Broker
    context: ServerContext
    loop: AbstractEventLoop
    transport: Transport
    server_state: ServerState
    client: tuple[str, int] | None
    pipeline: Any  # requests that wait behind the current one

    def caller(self, match: requests.FastRoute) -> Caller: ...

    def on_response_complete(self) -> None: ...


class PendingReply(ABC):
    scope: Final[Mapping[str, Any]] = {}
    match: requests.Match | None = None
    started: float | None = None  # monotonic; None if the access log does not need it
    closes = False  # no other request is read after it

    def __init__(self, connection: ReplyConnection) -> None:
        self.connection = connection
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = Event()

    @abstractmethod
    def request_line(self) -> tuple[str, bytes, int]:
        """The method, the target, and the length of the body, for the log."""

    def refuse(self, error: PlainmqError, as_event: bool = False) -> None:
        """`as_event`: the request was for a stream, and its client accepts a refusal as an event."""
        broker = self.connection.broker
        broker.counters.refusals[error.code] += 1
        response = response_to(error, as_event, broker.admission.pressure if isinstance(error, Draining) else 1.0)
        self.respond(response.status_code, *raw_responses.refused(response))

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.response_complete = True
        connection = self.connection
        connection.broker.counters.answers[status] += 1
        if status >= connection.context.access.least:
            self._log(status, body)
        transport = connection.transport
        if transport.is_closing():  # the client has disconnected meanwhile
            return
        close = b"" if self.keep_alive else b"connection: close\r\n"
        common = raw_responses.common(connection.server_state)
        transport.write(b"".join((STATUS_LINE[status], common, head, close, b"\r\n", body)))
        if self.closes and transport.can_write_eof():  # TLS cannot, and reads on while it closes
            # Bytes that arrive at a closed socket would reset it, and the response could be lost. So only the sending
            # side is closed; the client closes the other, or uvicorn after its keep-alive time.
            transport.write_eof()
        elif not self.keep_alive:
            transport.close()
        if connection.pipeline or self.closes:
            connection.on_response_complete()
        else:  # without uvicorn's timer: check() closes idle connections
            connection.server_state.total_requests += 1

    def _log(self, status: int, body: bytes) -> None:
        method, target, nbytes = self.request_line()
        match, connection = self.match, self.connection
        client = connection.client if match is None else connection.caller(match.route).address
        token = None if match is None else named(match.grant)
        connection.context.access.request(
            status, method, target, client=address(client), bytes_in=nbytes, bytes_out=len(body),
            seconds=None if self.started is None else monotonic() - self.started, token=token,
            code=code_of(body) if status >= 400 else None,
        )  # fmt: skip


class PublishReply(PendingReply):
    """The reply to a request of the fast path, and the PendingPublish of a publish. A connection reuses one object."""

    drafts: Sequence[Draft] = ()
    messages = 0
    batch = False
    match: requests.Match

    def request_line(self) -> tuple[str, bytes, int]:
        route = self.match.route
        return route.method, route.path, self.match.length

    def accepted(self, receipt: Receipt, start: int) -> None:
        durability = self.connection.broker.log.durability
        count = self.messages if self.batch else None
        self.drafts = ()  # an idle connection keeps nothing
        self.respond(CREATED, *raw_responses.accepted(receipt, start, durability, count))

    def refused(self, error: BaseException) -> None:
        if not isinstance(error, PlainmqError):
            context = {"message": "a publish was not answered: the log failed", "exception": error}
            self.connection.loop.call_exception_handler(context)
            error = PlainmqError("the server failed; whether the message was stored is unknown")
        self.drafts = ()
        self.refuse(error)

    def partly_refused(self, outcomes: Sequence[Receipt | Refused]) -> None:
        (outcome,) = outcomes
        if isinstance(outcome, Receipt):
            self.accepted(outcome, 0)
        else:
            self.refused(outcome)

    def abort(self) -> None:
        self.connection.transport.abort()


class Refusal(PendingReply):
    """The reply to a request that is refused before it is complete; no other is read after it. uvicorn runs it in
    turn."""

    closes = True

    def __init__(self, connection: ReplyConnection, error: PlainmqError, target: bytes) -> None:
        super().__init__(connection)
        self.keep_alive = False
        self._target = target
        self._error = error

    def request_line(self) -> tuple[str, bytes, int]:
        return "", self._target, 0  # the method may be unknown

    async def run_asgi(self, _app: object) -> None:
        self.answer()

    def answer(self) -> None:
        self.refuse(self._error)
