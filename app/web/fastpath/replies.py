"""Answers that a connection owes without ASGI. Each stands where uvicorn keeps the current request: so what is
pipelined behind it waits, and a stop lets it finish.
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
from . import raw_heads, requests
from .context import ServerContext

CREATED: Final = 201  # as a number: an enum's member is dear to look up, and dearer as a key


class Debtor(Protocol):
    """The connection."""

    broker: Broker
    context: ServerContext
    loop: AbstractEventLoop
    transport: Transport
    server_state: ServerState
    client: tuple[str, int] | None
    pipeline: Any  # what was asked behind, and waits

    def caller(self, found: requests.FastRoute) -> Caller: ...

    def on_response_complete(self) -> None: ...


class PendingReply(ABC):
    scope: Final[Mapping[str, Any]] = {}
    found: requests.Match | None = None
    begun: float | None = None  # when that is to be told
    last = False  # nothing comes behind it

    def __init__(self, debtor: Debtor) -> None:
        self.debtor = debtor
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = Event()

    @abstractmethod
    def asked(self) -> tuple[str, bytes, int]:
        """The method, the target and the bytes of the body, for the log."""

    def refuse(self, error: PlainmqError, as_event: bool = False) -> None:
        """`as_event`: with an event where a stream was asked for."""
        broker = self.debtor.broker
        broker.counters.refusals[error.code] += 1
        response = response_to(error, as_event, broker.pressure if isinstance(error, Draining) else 1.0)
        self.respond(response.status_code, *requests.refused(response))

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.response_complete = True
        debtor = self.debtor
        debtor.broker.counters.answers[status] += 1
        if status >= debtor.context.access.least:
            self._tell(status, body)
        transport = debtor.transport
        if transport.is_closing():  # the client left while the log was asked
            return
        close = b"" if self.keep_alive else b"connection: close\r\n"
        common = raw_heads.common(debtor.server_state)
        transport.write(b"".join((STATUS_LINE[status], common, head, close, b"\r\n", body)))
        if self.last and transport.can_write_eof():  # TLS cannot, and reads on while it closes
            # What is still on its way would reset a closed connection, and the answer with it:
            transport.write_eof()  # the client closes, or else uvicorn does after its keep-alive time
        elif not self.keep_alive:
            transport.close()
        if debtor.pipeline or self.last:
            debtor.on_response_complete()
        else:  # no timer of uvicorn's: look() ends a connection on which nothing comes
            debtor.server_state.total_requests += 1

    def _tell(self, status: int, body: bytes) -> None:
        method, target, nbytes = self.asked()
        found, debtor = self.found, self.debtor
        client = debtor.client if found is None else debtor.caller(found.shortcut).address
        token = None if found is None else named(found.grant)
        debtor.context.access.request(
            status, method, target, client=address(client), bytes_in=nbytes, bytes_out=len(body),
            seconds=None if self.begun is None else monotonic() - self.begun, token=token,
            code=code_of(body) if status >= 400 else None,
        )  # fmt: skip


class PublishReply(PendingReply):
    """For a request that took a short cut. A connection has one at a time, and uses it again; a publish waits in it."""

    drafts: Sequence[Draft] = ()
    messages = 0
    batch = False
    found: requests.Match

    def asked(self) -> tuple[str, bytes, int]:
        short = self.found.shortcut
        return short.method, short.path, self.found.length

    def accepted(self, receipt: Receipt, place: int) -> None:
        durability = self.debtor.broker.engine.durability
        count = self.messages if self.batch else None
        self.drafts = ()  # a connection that waits holds nothing
        self.respond(CREATED, *requests.accepted(receipt, place, durability, count))

    def refused(self, error: BaseException) -> None:
        if not isinstance(error, PlainmqError):
            context = {"message": "a publish was not answered: the log failed", "exception": error}
            self.debtor.loop.call_exception_handler(context)
            error = PlainmqError("the server failed; nobody knows whether the message was stored")
        self.drafts = ()
        self.refuse(error)

    def partly_refused(self, outcomes: Sequence[Receipt | Refused]) -> None:
        (outcome,) = outcomes
        if isinstance(outcome, Receipt):
            self.accepted(outcome, 0)
        else:
            self.refused(outcome)

    def abort(self) -> None:
        self.debtor.transport.abort()


class Refusal(PendingReply):
    """For a request of which nothing is done, and behind which nothing comes. uvicorn runs it in its turn."""

    last = True

    def __init__(self, debtor: Debtor, error: PlainmqError, target: bytes) -> None:
        super().__init__(debtor)
        self.keep_alive = False
        self._target = target
        self._error = error

    def asked(self) -> tuple[str, bytes, int]:
        return "", self._target, 0  # the method may not be known

    async def run_asgi(self, _app: object) -> None:
        self.answer()

    def answer(self) -> None:
        self.refuse(self._error)
