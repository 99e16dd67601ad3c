"""Below ASGI: what of HTTP needs the connection itself. The app works without this file, at ASGI's price.

An event stream: ASGI keeps a task, a queue and a request alive for every reader. Here the response hands its connection
over instead: the protocol object is the sink of a reader or a worker, and what the request needed is dropped.

A publish, and a reader who comes: ASGI builds a scope, a task, a request and a response for each. Here a plain one
(web/shortcut.py says which) goes from the parser to the broker, and its answer from the broker to the socket.

A request that does not end: neither its bytes nor its time are ASGI's affair. Here they are bounded (web/intake.py).
"""

from abc import ABC, abstractmethod
from asyncio import Event
from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, Protocol, cast

import httptools
import msgspec
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ..access import Grant
from ..accesslog import AccessLog, address
from ..broker import Broker
from ..doorkeeper import Doorkeeper
from ..errors import NotHttp, PlainmqError, Refused, RequestTimeout, UpgradeUnsupported
from ..frames import CHUNKED_RAW, STREAM_HEADERS, farewell, hello
from ..message import Draft, Receipt
from . import shortcut
from .ending import ending
from .exchange import Exchange, code_of, exchange, named
from .intake import Intake, Stage, Watch, check_parts, head_size
from .problem import answer_to
from .wanted import Wanted

REQUEST: Final = "plainmq.request"  # the ASGI extension under which a request finds its Request
LINGER: Final = 10.0  # seconds that an ended stream has to take what was written before it is cut off

_FRAMING: Final = {"Transfer-Encoding": "chunked", "Connection": "close"}  # nothing can follow a stream
_STREAM_HEAD: Final = "".join(
    f"{name.lower()}: {value}\r\n" for name, value in (STREAM_HEADERS | _FRAMING).items()
).encode()
_LAST_CHUNK: Final = b"0\r\n\r\n"
_NOT_HTTP: Final = "this is not a request of HTTP/1.1"
# uvicorn would log a line and answer without the body, which the parser has taken for the other protocol's:
_UPGRADE: Final = "this server speaks HTTP/1.1 only: send the request without Upgrade (curl: without --http2)"


class Owed(ABC):
    """Stands where uvicorn keeps the current request while an answer is owed that ASGI has no part in: what is
    pipelined behind it waits too, and a stop lets it finish."""

    scope: Final[Mapping[str, Any]] = {}
    begun: float | None = None  # when that is to be told
    token: str | None = None

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = Event()

    @abstractmethod
    def asked(self) -> tuple[str, bytes, int]:
        """The method, the target and the bytes of the body, for the log."""


class Publish(Owed):
    """A short-cut publish: it is coming in, or waits for the log. A connection has one at a time, and uses it again."""

    draft: Draft
    wanted: Wanted | None = None  # it is a reader's who is refused

    def asked(self) -> tuple[str, bytes, int]:
        if self.wanted is not None:
            return "GET", _path(self.wanted), 0
        return "POST", f"/topics/{self.draft.topic}/messages".encode(), len(self.draft.data)

    def accepted(self, receipt: Receipt, place: int) -> None:
        durability = self.connection.broker.engine.durability
        self.connection.respond(self, HTTPStatus.CREATED, *shortcut.accepted(receipt, place, durability))

    def refused(self, error: BaseException) -> None:
        if not isinstance(error, PlainmqError):
            context = {"message": "a publish was not answered: the log failed", "exception": error}
            self.connection.loop.call_exception_handler(context)
            error = PlainmqError("the server failed; nobody knows whether the message was stored")
        self.connection.refuse(self, error)


class Refusal(Owed):
    """A request of which nothing is done, and behind which nothing comes. uvicorn runs it in its turn."""

    def __init__(self, connection: "Connection", error: Refused, target: bytes) -> None:
        super().__init__(connection)
        self.keep_alive = False
        self._target = target
        self._error = error

    def asked(self) -> tuple[str, bytes, int]:
        return "", self._target, 0  # the method may not be known

    async def run_asgi(self, _app: object) -> None:
        self.answer()

    def answer(self) -> None:
        self.connection.refuse(self, self._error)


class Request(msgspec.Struct, frozen=True):
    """What a request finds in its scope: its connection, and its own place there, whatever is pipelined behind it."""

    connection: "Connection"
    cycle: RequestResponseCycle

    @property
    def gone(self) -> bool:
        """The client has left."""
        return self.cycle.disconnected


class Subscription(Protocol):
    """Whose bytes a connection takes: a Reader's or a Worker's."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, with two short cuts and some bounds."""

    _subscription: Subscription | None = None
    _stream: Exchange | None = None
    _found: shortcut.Found | None = None
    _publish: Publish | None = None
    _body: bytearray
    _piece = b""  # what came last

    _deaf = False  # a client has nothing to say to a stream, or no more to say at all
    _stage = Stage.REQUEST
    url = b""
    _requests = 0
    _octets = 0  # of all bodies
    _head = 0  # bytes of a head that has not ended, as far as they are known; or of what frames a body and is none

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        state = self.config.app.state  # type: ignore[union-attr]
        self.broker: Broker = state.broker
        self._keeper: Doorkeeper = state.keeper
        self._shortcuts: shortcut.Shortcuts = state.shortcuts
        self._intake: Intake = state.intake
        self._access: AccessLog = state.access
        self._counts = self.broker.counts
        self._watch = Watch()

    # A request: short cut or not

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._stage, self._head = Stage.HEAD, 0
        self._requests += 1

    def on_headers_complete(self) -> None:
        parser = self.parser
        check_parts(self.url, self.headers)
        if self._head:  # or it came in one piece, and no piece is too large
            self._intake.check_size(head_size(parser.get_method(), self.url, self.headers))
        self._stage, self._head = Stage.BODY, 0
        if parser.should_upgrade():
            return  # it will be refused: the parser takes what follows for another protocol
        if self._is_idle() and parser.should_keep_alive() and parser.get_http_version() == "1.1":
            self._found = self._shortcuts.find(parser.get_method(), self.url, self.headers)
        if self._found is None:
            self._build_request()
        else:
            self._body = bytearray()
            self._owe()

    def _is_idle(self) -> bool:
        """Nothing was asked that has not been answered."""
        return self.cycle is None or self.cycle.response_complete

    def _build_request(self) -> None:
        """What uvicorn does at a message's begin, now that its head is known."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers
        super().on_headers_complete()
        self.scope["extensions"] = {REQUEST: Request(self, self.cycle)}  # type: ignore[dict-item]
        self.headers = []  # the request has its own: what comes behind its body does not get among them

    def on_body(self, body: bytes) -> None:
        self._octets += len(body)
        if self._found is not None:
            self._body += body
        elif not self.parser.should_upgrade():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stage = Stage.REQUEST
        if (found := self._found) is not None:
            self._found = None
            self._shortcuts.remember(self._piece, found.shortcut)
            self.loop.call_soon(found.shortcut.take, self, found.grant, bytes(self._body))  # not below the parser
        elif not self.parser.should_upgrade():
            super().on_message_complete()

    # What a short cut leads to

    def _owe(self) -> Publish:
        """The publish that comes in now."""
        publish = self._publish
        if publish is None:
            publish = self._publish = Publish(self)
        publish.response_complete = False
        self.cycle = publish  # type: ignore[assignment]
        return publish

    def publish(self, draft: Draft, grant: Grant) -> None:
        publish = self._owe()
        publish.draft = draft
        if self._access.all:
            publish.begun, publish.token = monotonic(), named(grant)
        self.broker.gather.add(publish)

    def refuse(self, owed: Owed, error: PlainmqError, softly: bool = False) -> None:
        self._counts.refusals[error.code] += 1
        self.send(owed, answer_to(error, softly))

    def send(self, owed: Owed, response: Response) -> None:
        self.respond(owed, response.status_code, *shortcut.refused(response))

    def respond(self, owed: Owed, status: int, head: bytes, body: bytes) -> None:
        owed.response_complete = True
        self._counts.answers[status] += 1
        if status >= self._access.least:
            self._tell(owed, status, body)
        if self.transport.is_closing():  # the client left while the log was asked
            return
        close = b"" if owed.keep_alive else b"connection: close\r\n"
        common = _as_bytes(self.server_state)
        self.transport.write(b"%b%b%b%b\r\n%b" % (STATUS_LINE[status], common, head, close, body))
        if isinstance(owed, Refusal):  # what is still on its way would reset a closed connection, and its answer:
            self.transport.write_eof()  # the client closes, or else uvicorn does after its keep-alive time
        elif not owed.keep_alive:
            self.transport.close()
        if self.pipeline or isinstance(owed, Refusal):
            self.on_response_complete()
        else:  # no timer of uvicorn's: look() ends a connection on which nothing comes
            self.server_state.total_requests += 1

    def _tell(self, owed: Owed, status: int, body: bytes) -> None:
        method, target, octets = owed.asked()
        self._access.request(
            status, method, target, client=address(self.client), bytes_in=octets, bytes_out=len(body),
            seconds=None if owed.begun is None else monotonic() - owed.begun, token=owed.token,
            code=code_of(body) if status >= 400 else None,
        )  # fmt: skip

    # What is too much or too slow

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._stage is Stage.REQUEST and self._is_idle() and (known := self._shortcuts.recall(data)):
            self._requests += 1
            short, grant, body = known
            short.take(self, grant, body)
            return
        self._piece = data if self._stage is Stage.REQUEST else b""
        most = self._intake.max_head
        try:
            for start in range(0, len(data), most):
                self._feed(data[start : start + most])
        except httptools.HttpParserUpgrade:
            self._turn_away(UpgradeUnsupported(_UPGRADE), self.url)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._drop(cause if isinstance(cause, Refused) else NotHttp(_NOT_HTTP))
        except Refused as error:
            self._drop(error)

    def _feed(self, piece: bytes) -> None:
        """Raises HeadTooLarge, TargetTooLong."""
        stage, requests, octets = self._stage, self._requests, self._octets
        self.parser.feed_data(piece)
        if self._stage is Stage.HEAD:
            whole = self._requests - requests == (stage is Stage.REQUEST)  # nothing else was in this piece
            self._head += len(piece) if whole else 1
            check_parts(self.url, self.headers)
        elif self._stage is stage is Stage.BODY and (requests, octets) == (self._requests, self._octets):
            self._head += len(piece)
        else:
            return
        self._intake.check_size(self._head)

    def look(self, now: float) -> None:
        """End what comes too slowly; to be called about once a second."""
        stage = self._awaited()
        if self._watch.is_late(stage, self._requests, self._octets, now, self._intake):
            if stage is Stage.REQUEST:
                self.transport.close()
            else:
                self._drop(RequestTimeout(f"the request's {self._stage.name.lower()} came too slowly"))

    def _awaited(self) -> Stage | None:
        """None when the client is waiting for us; also when we do not read."""
        if self._deaf or self.pipeline or self.flow.read_paused:
            return None
        idle = self._is_idle() and self.timeout_keep_alive_task is None
        return self._stage if idle or self._stage is not Stage.REQUEST else None

    def _drop(self, error: Refused) -> None:
        """Do nothing of the request that is coming in, and answer so if nothing else was."""
        if self._stage is not Stage.BODY:
            self._turn_away(error, self.url if self._stage is Stage.HEAD else b"")
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.response_complete = self.cycle.disconnected = True
            if seen := exchange(cast(dict[str, Any], self.cycle.scope)):
                seen.dropped = True
            self.cycle.message_event.set()
            self._turn_away(error, self.url)

    def _turn_away(self, error: Refused, target: bytes) -> None:
        """Answer after all that was asked before, and hear no more."""
        self._deaf = True
        before, refusal = self.cycle, Refusal(self, error, target)
        self.cycle = refusal  # type: ignore[assignment]
        if before is None or before.response_complete:
            refusal.answer()
        else:
            self.pipeline.appendleft((refusal, self.app))  # type: ignore[arg-type]

    # An event stream

    def stream(self, wanted: Wanted, grant: Grant, softly: bool) -> None:
        """`softly`: the client takes a refusal as an event."""
        if self.transport.is_closing():
            return
        owed = self._owe()
        try:
            reader = wanted.subscribe(self.broker, wanted.forms.chunked, self)
        except PlainmqError as error:
            owed.wanted = wanted
            self.refuse(owed, error, softly)
            owed.wanted = None
            return
        self._stream = Exchange("GET", _path(wanted), self.client, None, named(grant))
        self.hold(owed, reader)
        if (until := ending(self._keeper, grant, wanted.timeout)) is not None:
            reader.end_in(*until)
        wanted.begin(reader)

    def hold(self, cycle: RequestResponseCycle | Owed, subscription: Subscription) -> None:
        """Become the subscription's sink: send the head of a chunked 200, and drop what requests needed."""
        self.write = self.transport.write  # the hot path: no frame of ours between a cohort and the socket
        common = _as_bytes(self.server_state)
        self._stream = self._stream or exchange(cast(dict[str, Any], cycle.scope))
        known = b"".join([b"%b: %b\r\n" % header for header in self._stream.header]) if self._stream else b""
        self.write(b"%b%b%b%b\r\n%b" % (STATUS_LINE[200], common, known, _STREAM_HEAD, CHUNKED_RAW.wrap([hello()])))
        cycle.response_started = cycle.response_complete = True  # uvicorn: nothing is owed any more
        self._subscription, self._deaf = subscription, True
        self._counts.answers[200] += 1
        self._unset_keepalive_if_required()
        self.flow.resume_reading()  # or the client's leaving would go unseen
        if self.flow.write_paused:
            subscription.pause()
        self.pipeline.clear()
        released: Any = None
        self.cycle = self.scope = self.headers = self.parser = released

    def pending(self) -> int:
        return self.transport.get_write_buffer_size()

    def end(self, reason: str) -> None:
        self._because(reason)
        self.write(CHUNKED_RAW.wrap([farewell(reason)]) + _LAST_CHUNK)
        self._release()
        if self.pending():
            self.loop.call_later(LINGER, self.transport.abort)
        self.transport.close()

    def abort(self) -> None:
        self._because("cut_off")
        self._release()
        self.transport.abort()

    def _release(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    def _because(self, why: str) -> None:
        if self._stream is not None and not self._stream.why:
            self._stream.why = why

    # What the transport says

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._counts.connections["http"] = self._counts.connections.get("http", 0) + 1

    def pause_writing(self) -> None:
        """The peer does not take what it is sent; requests that it pipelines wait too, or answers would pile up."""
        super().pause_writing()
        if self._subscription is None:
            self.flow.pause_reading()
        else:
            self._subscription.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._subscription is None:
            self.flow.resume_reading()
        else:
            self._subscription.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        self._publish = None
        self._counts.connections["http"] -= 1
        if self._stream is not None:
            self._stream.streams = True
            self._stream.tell(self._access)
        super().connection_lost(exc)


def _path(wanted: Wanted) -> bytes:
    (name,) = (*wanted.selector.topics, *wanted.selector.patterns)
    return f"/topics/{name}/stream".encode()


def _as_bytes(state: ServerState) -> bytes:
    """The headers that all answers have; uvicorn makes them anew every second."""
    global _common  # noqa: PLW0603
    if state.default_headers is not _common[0]:
        _common = state.default_headers, b"".join([b"%b: %b\r\n" % header for header in state.default_headers])
    return _common[1]


_common: tuple[list[tuple[bytes, bytes]], bytes] = [], b""
