"""Below ASGI: what of HTTP needs the connection itself. The app works without this file, at ASGI's price.

An event stream: ASGI keeps a task, a queue and a request alive for every reader. Here the response hands its connection
over instead: the protocol object is the sink of a reader or a worker, and what the request needed is dropped.

A publish, and a reader who comes: ASGI builds a scope, a task, a request and a response for each. Here a plain one
(requests.py says which) goes from the parser to the broker, and its answer from the broker to the socket.

A request that does not end: neither its bytes nor its time are ASGI's affair. Here they are bounded (web/intake.py).
"""

import logging
from asyncio import AbstractEventLoop, Transport, get_running_loop
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ...errors import NotHttp, Overloaded, PlainmqError, Refused, RequestTimeout, UpgradeUnsupported
from ...net.sockets import is_tls, let_go
from ..authentication import rate_limit_key
from ..middleware.access_log import AccessRecord, access_record, named
from ..middleware.forwarded import Caller
from ..streaming.lifetime import StreamLifetime
from ..streaming.stream_request import StreamRequest
from ..streaming.takeover import REQUEST, Request, Subscription
from . import raw_heads, requests
from .context import ServerContext
from .limits import MOST_AHEAD, Stage, Watch, check_parts, head_size
from .replies import PublishReply, Refusal
from .stream_sink import StreamSink

_REQUEST: Final = Stage.REQUEST  # an enum's member is dear to look up
HIGH_WATER: Final = 64 << 10  # bytes that may wait in a TLS transport, as in a plain one, and as many that came in

_NOT_HTTP: Final = "this is not a request of HTTP/1.1"
_NOT_ASCII: Final = "a URL is written in ASCII, and others by their bytes in UTF-8: %C3%A9 for \u00e9"
_UPGRADE: Final = b"upgrade"
_CONNECT: Final = b"CONNECT"
_NO_TUNNEL: Final = "this server is no proxy: it opens no tunnels"


class EnoughAsked(Exception):
    """No more requests are read: those that are waiting are answered, and the connection closed behind them."""


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, with two short cuts and some bounds."""

    # Of uvicorn's own, which is made when a request has to be read:
    client: tuple[str, int] | None = None
    timeout_keep_alive_task = None
    parser: Any = None
    flow: FlowControl = cast(FlowControl, None)
    cycle: RequestResponseCycle = cast(RequestResponseCycle, None)
    pipeline = cast("deque[tuple[RequestResponseCycle, ASGI3Application]]", ())
    logger = logging.getLogger("uvicorn.error")

    _watch: Watch | None = None
    _found: requests.Match | None = None
    _short: PublishReply | None = None
    _body: bytearray
    _piece = b""  # what came last
    _running: RequestResponseCycle | None = None  # the request that is worked on: self.cycle is the last that came

    _deaf = False  # what comes now is not read
    _stage = Stage.REQUEST
    url = b""
    _requests = 0
    _octets = 0  # of all bodies
    _held = 0  # of a short-cut publish's that is not whole
    _head = 0  # bytes of a head that has not ended, as far as they are known; or of what frames a body and is none

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None, *, staff: ServerContext,
    ) -> None:  # fmt: skip
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.loop = _loop or get_running_loop()
        self.connections = server_state.connections
        self.context = staff
        self.broker = staff.broker

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.connections.add(self)
        connections, secure = self.broker.counters.connections, is_tls(transport)
        connections["http"] = connections.get("http", 0) + 1
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self._peer = Caller(host, port, "https" if secure else "http")
        if len(self.connections) > self.context.intake.max_clients:
            self._deaf = True
            transport.abort()
        elif secure:
            transport.set_write_buffer_limits(HIGH_WATER)
            transport.set_read_buffer_limits(HIGH_WATER)  # type: ignore[attr-defined]
            if self.broker.draining:
                transport.close()  # it came before the stop, and took until now to shake hands

    def _furnish(self) -> None:
        """uvicorn's part of the connection: a parser, and what requests need. The short cut does without for as long
        as it knows what comes."""
        cycle, transport = self.cycle, self.transport
        super().__init__(self.config, self.server_state, self.app_state, self.loop)
        super().connection_made(transport)
        self.cycle = cycle

    def caller(self, found: requests.FastRoute) -> Caller:
        """Who sent what takes the short cut, behind our proxies. Other requests find it in their scope."""
        return self.context.proxies.caller(self._peer, found.forwarded) if found.forwarded else self._peer

    def _client(self, found: requests.Match) -> str | None:
        """Whose request it is, as quotas know it."""
        return rate_limit_key(found.grant, self.caller(found.shortcut).host or None)

    # A request: short cut or not

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_AHEAD:  # RFC 9112, section 9.3.2: the client asks again for what got no answer
            self.cycle.keep_alive, self._deaf = False, True
            raise EnoughAsked
        self._unset_keepalive_if_required()
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._stage, self._head = Stage.HEAD, 0
        self._requests += 1

    def on_headers_complete(self) -> None:
        parser = self.parser
        check_parts(self.url, self.headers)
        if self._head:  # or it came in one piece, and no piece is too large
            self.context.intake.check_size(head_size(parser.get_method(), self.url, self.headers))
        self._head = 0
        if not parser.should_upgrade():  # else the parser ends here, and the head is read again
            self._take_up()
            self._stage = Stage.BODY  # now: a target that is no URL is still the head's fault

    def _take_up(self) -> None:
        parser = self.parser
        if self._is_idle() and parser.should_keep_alive() and parser.get_http_version() == "1.1":
            self._found = self.context.shortcuts.find(parser.get_method(), self.url, self.headers)
        if self._found is None:
            self._build_request()
        else:
            self._body = bytearray()
            self._owe(self._found)

    def _is_idle(self) -> bool:
        """Nothing was asked that has not been answered."""
        return self.cycle is None or self.cycle.response_complete

    def _build_request(self) -> None:
        """What uvicorn does at a message's begin, now that its head is known."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        current = self.parser.get_http_version() == "1.1"
        self.url, self.expect_100_continue = url, expect and current  # RFC 9110, section 10.1.1
        self.headers += headers
        super().on_headers_complete()
        if not current:
            self.cycle.keep_alive = self._may_persist()
        self.scope["extensions"] = {REQUEST: Request(self, self.cycle)}  # type: ignore[dict-item]
        self.headers = []  # the request has its own: what comes behind its body does not get among them

    def _may_persist(self) -> bool:
        """An older client asks for it, and does not take it back (RFC 9112, section 9.3; the parser knows no `close`
        here). Its protocol knows no chunks: their end is in doubt, and nothing is read behind them (section 6.1)."""
        said = b",".join([value.lower() for name, value in self.headers if name == b"connection"])
        options = [option.strip(b" \t") for option in said.split(b",")]
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return b"keep-alive" in options and b"close" not in options and not chunked

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._octets += len(body)
        if self._found is not None:
            self._body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._stage = Stage.REQUEST
        if (found := self._found) is not None:
            self._found = None
            self.context.shortcuts.remember(self._piece, found)
            body = bytes(self._body)
            del self._body  # a connection that waits holds nothing
            self.loop.call_soon(self._take, found, body)  # not below the parser
        else:
            super().on_message_complete()

    # What a short cut leads to

    def _take(self, found: requests.Match, body: bytes) -> None:
        """It is whole: hours may have gone by since its head."""
        shortcuts = self.context.shortcuts
        if not shortcuts.still_holds(found):
            owed = self._owe(found)
            try:
                found = owed.found = shortcuts.again(found, self.caller(found.shortcut).host)
            except PlainmqError as error:
                owed.refuse(error)
                return
        found.shortcut.take(self, found, body)

    def _owe(self, found: requests.Match) -> PublishReply:
        """An answer to the request that comes in now, or whose head came before others."""
        owed = self._short
        if owed is None:
            owed = self._short = PublishReply(self)
        elif owed.found is found and not owed.response_complete:
            return owed  # what was pipelined behind it meanwhile stays the last that came
        owed.found = found
        if self.context.access.all:
            owed.begun = monotonic()
        owed.response_complete = False
        self.cycle = owed  # type: ignore[assignment]
        return owed

    def publish(self, short: requests.FastPublish, body: bytes, found: requests.Match) -> None:
        owed, broker = self._owe(found), self.broker
        try:
            draft = short.read(body)
            owed.drafts, owed.messages, owed.batch = (draft,), len(draft.bodies), short.batch
            broker.quotas.publish(self._client(found), owed.messages)
        except PlainmqError as error:
            owed.refuse(error)
        else:
            broker.batcher.add(owed)

    # What is too much or too slow

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._stage is _REQUEST and self._is_idle() and (known := self.context.shortcuts.recall(data)):
            self._requests += 1
            found, body = known
            found.shortcut.take(self, found, body)
            return
        self._piece = data if self._stage is Stage.REQUEST else b""
        most = self.context.intake.max_head
        try:
            for start in range(0, len(data), most):
                self._feed(data[start : start + most])
            self._account()
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, EnoughAsked):
                return
            ascii_only = data.partition(b"\r\n")[0].isascii()
            self._drop(cause if isinstance(cause, Refused) else NotHttp(_NOT_HTTP if ascii_only else _NOT_ASCII))
        except (Refused, Overloaded) as error:
            self._drop(error)

    def _account(self) -> None:
        """What of a short-cut publish's body has come is kept until it is whole. Raises Overloaded."""
        nbytes = len(self._body) if self._found is not None else 0
        if nbytes != self._held:
            self.broker.inbound.grow(self._held, nbytes)
            self._held = nbytes

    def _feed(self, piece: bytes) -> None:
        """Raises HeadTooLarge, TargetTooLong."""
        if self.parser is None:
            self._furnish()
        stage, requests, nbytes = self._stage, self._requests, self._octets
        self._parse(piece)
        if self._stage is Stage.HEAD:
            whole = self._requests - requests == (stage is Stage.REQUEST)  # nothing else was in this piece
            self._head += len(piece) if whole else 1
            check_parts(self.url, self.headers)
        elif self._stage is stage is Stage.BODY and (requests, nbytes) == (self._requests, self._octets):
            self._head += len(piece)
        else:
            return
        self.context.intake.check_size(self._head)

    def _parse(self, piece: bytes) -> None:
        """The parser ends at a head that offers another protocol. RFC 9110, section 7.8: a server may ignore the offer;
        so a new parser reads that head again, without it, and what comes behind. Raises UpgradeUnsupported."""
        while piece:
            try:
                self.parser.feed_data(piece)
                return
            except httptools.HttpParserUpgrade as offer:
                piece = self._head_without_offer() + piece[offer.args[0] :]
                self._requests -= 1
                self._piece = b""  # these bytes were not what the parser has found
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's: it is only ignored

    def _head_without_offer(self) -> bytes:
        """Raises UpgradeUnsupported."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == _CONNECT:  # what follows is no HTTP, whatever we say
            raise UpgradeUnsupported(_NO_TUNNEL)
        fields = b"".join([b"%b: %b\r\n" % field for field in self.headers if field[0] != _UPGRADE])
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, fields)

    def look(self, now: float) -> None:
        """End what comes too slowly; to be called about once a second."""
        if self.transport.is_closing():
            let_go(self.transport)
            return
        stage = self._awaited()
        if self._watch is None:
            self._watch = Watch()
        if self._watch.is_late(stage, self._requests, self._octets, now, self.context.intake):
            if stage is Stage.REQUEST:
                self.transport.close()
            else:
                self._drop(RequestTimeout(f"the request's {self._stage.name.lower()} came too slowly"))

    def unsent(self) -> int:
        """Bytes of answers that the client has not taken."""
        return self.transport.get_write_buffer_size()

    def _awaited(self) -> Stage | None:
        """None when the client is waiting for us; also when we do not read."""
        if self._deaf or self.pipeline or (self.flow is not None and self.flow.read_paused):
            return None
        idle = self._is_idle() and self.timeout_keep_alive_task is None
        return self._stage if idle or self._stage is not Stage.REQUEST else None

    def _drop(self, error: PlainmqError) -> None:
        """Do nothing of the request that is coming in, and answer so if nothing else was."""
        if self._stage is not Stage.BODY:
            self._turn_away(error, self.url if self._stage is Stage.HEAD else b"")
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.response_complete = self.cycle.disconnected = True
            if seen := access_record(cast(dict[str, Any], self.cycle.scope)):
                seen.superseded = True
            self.cycle.message_event.set()
            self._turn_away(error, self.url)

    def _turn_away(self, error: PlainmqError, target: bytes) -> None:
        """Answer after all that was asked before, and hear no more."""
        self._deaf, self._found = True, None
        self._account()
        before, refusal = self.cycle, Refusal(self, error, target)
        self.cycle = refusal  # type: ignore[assignment]
        if before is None or before.response_complete:
            refusal.answer()
        else:
            self.pipeline.appendleft((refusal, self.app))  # type: ignore[arg-type]

    # An event stream

    def stream(self, stream_request: StreamRequest, as_event: bool, found: requests.Match) -> None:
        if self.transport.is_closing():
            return
        sink, caller = self.sink(), self.caller(found.shortcut)
        try:
            reader = stream_request.subscribe(self.broker, self._client(found), stream_request.encoders.chunked, sink)
        except PlainmqError as error:
            self._owe(found).refuse(error, as_event)
            return
        seen = AccessRecord(found.shortcut.method, found.shortcut.path, caller.address, None, named(found.grant))
        StreamLifetime(self.context.authenticator, found.grant, stream_request.timeout).begin(sink, reader)
        self.take_over(sink, seen, reader, partial(reader.start, stream_request.start))

    def sink(self) -> StreamSink:
        """Where the bytes of a subscription can go."""
        return StreamSink(self.transport, self.connections, self.context)

    def take_over(
        self, sink: StreamSink, seen: AccessRecord | None, subscription: Subscription, begin: Callable[[], object]
    ) -> None:
        """Nothing but the subscription's sink. What requests needed is dropped."""
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.transport.set_protocol(sink)
        self._deaf = True
        if self.flow is not None:
            self.flow.resume_reading()  # or the client's leaving would go unseen
            if self.flow.write_paused:
                subscription.pause()
        released: Any = None
        self.cycle = self._short = self._running = self.scope = self.parser = released  # they hold the connection
        sink.open(raw_heads.stream(self.server_state), seen, subscription, begin)

    # What the transport says

    def pause_writing(self) -> None:
        """The peer does not take what it is sent; requests that it pipelines wait too, or answers would pile up."""
        if self.flow is None:
            self._furnish()
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Who sends no more still gets the answer to a publish that is on its way to the log. Others have left: who
        waits for something to read would otherwise hold his place."""
        owed, half = self._short, self._found is not None
        if owed is None or half or self._is_idle() or owed is not cast(object, self.cycle):
            return False
        self._deaf, owed.keep_alive = True, False
        return self.transport.can_write_eof()  # TLS closes by itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._short = self._found = None
        self._account()
        self.broker.counters.connections["http"] -= 1
        if self._running is not None:  # uvicorn tells the last that came only, and this one may wait for long
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
