"""The HTTP connection below ASGI. The app works without this file, at the cost of ASGI.

Event streams: ASGI keeps a task, a queue and a request for every subscriber. Here the response hands its connection
over to a sink, and what the request needed is dropped.

Plain publishes and streams (requests.py says which): ASGI makes a scope, a task, a request and a response for each.
Here they go from the parser to the broker, and the reply goes from the broker to the socket.

Limits: ASGI bounds neither the size nor the duration of a request. Here both are bounded (limits.py).
"""

import logging
from asyncio import AbstractEventLoop, Transport, get_running_loop
from collections import deque
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ...access.grant import Grant
from ...errors import Overloaded, PlainmqError, Refused, RequestTimeout
from ...net.sockets import abort_when_sent, is_tls
from ..authentication import rate_limit_key
from ..middleware.access_log import AccessRecord, access_record
from ..middleware.forwarded import Caller
from ..streaming.persistence import Persistence, may_persist
from ..streaming.takeover import REQUEST, Begin, Request, Subscription
from . import raw_responses, requests
from .context import ServerContext
from .limits import MAX_PIPELINED, SlowRequestDetector, Stage, check_parts, head_size
from .parser_stops import explain, head_without_upgrade
from .replies import PublishReply, Refusal
from .serving import serve, serve_late
from .stream_sink import StreamSink
from .target import origin_form

HIGH_WATER: Final = 64 << 10  # bytes that a TLS transport may buffer in each direction, as a plain one does


class PipelineFull(Exception):
    """Too many pipelined requests: no more are read, those that wait are answered, and the connection is closed."""


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection with a fast path and limits."""

    # uvicorn's attributes, which _init_uvicorn() sets when a request has to be parsed:
    client: tuple[str, int] | None = None
    timeout_keep_alive_task = None
    parser: Any = None
    flow: FlowControl = cast(FlowControl, None)
    cycle: RequestResponseCycle = cast(RequestResponseCycle, None)
    pipeline = cast("deque[tuple[RequestResponseCycle, ASGI3Application]]", ())
    logger = logging.getLogger("uvicorn.error")

    _slow_request: SlowRequestDetector | None = None
    _match: requests.Match | None = None
    _reply: PublishReply | None = None
    _body: bytearray
    _last_key: tuple[Grant | None, str | None] = None, None  # of the last request, mostly of the next one too
    _last_piece = b""  # the last received bytes, if they began with a request
    _running_cycle: RequestResponseCycle | None = None  # the request that is worked on; self.cycle is the latest

    _reading_stopped = False  # received data is ignored
    _stage: Stage = "request"
    url = b""
    _requests = 0
    _body_bytes = 0  # received so far
    _accounted = 0  # bytes of an incomplete body that the inbound budget counts
    _head_bytes = 0  # bytes of an incomplete head, or of the framing of a body without data

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None, *, context: ServerContext,
    ) -> None:  # fmt: skip
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.loop = _loop or get_running_loop()
        self.connections = server_state.connections
        self.context = context
        self.broker = context.broker

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.connections.add(self)
        connections, secure = self.broker.counters.connections, is_tls(transport)
        connections["http"] = connections.get("http", 0) + 1
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self._peer = Caller(host, port, "https" if secure else "http")
        if len(self.connections) > self.context.request_limits.max_clients:
            self._reading_stopped = True
            transport.abort()
        elif secure:
            transport.set_write_buffer_limits(HIGH_WATER)
            transport.set_read_buffer_limits(HIGH_WATER)  # type: ignore[attr-defined]
            if self.broker.admission.draining:
                transport.close()  # it was accepted before the stop; the TLS handshake took until now

    def _init_uvicorn(self) -> None:
        """Make uvicorn's part of the connection: the parser and the flow control. Cached heads do without it."""
        cycle, transport = self.cycle, self.transport
        super().__init__(self.config, self.server_state, self.app_state, self.loop)
        super().connection_made(transport)
        self.cycle = cycle

    def caller(self, match: requests.FastRoute) -> Caller:
        """The client behind trusted proxies, for a request of the fast path. Other requests have it in their scope."""
        return self.context.proxies.caller(self._peer, match.forwarded) if match.forwarded else self._peer

    def rate_limit_key(self, match: requests.Match) -> str | None:
        """The owner of the request in quotas."""
        if match.route.forwarded:
            return rate_limit_key(match.grant, self.caller(match.route).host or None)
        if self._last_key[0] is not match.grant:
            self._last_key = match.grant, rate_limit_key(match.grant, self._peer.host or None)
        return self._last_key[1]

    # Parsing: a request takes the fast path or not

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:  # RFC 9112, section 9.3.2: the client repeats unanswered requests
            self.cycle.keep_alive, self._reading_stopped = False, True
            raise PipelineFull
        self._unset_keepalive_if_required()
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._stage, self._head_bytes = "head", 0
        self._requests += 1

    def on_headers_complete(self) -> None:
        parser = self.parser
        check_parts(self.url, self.headers)
        if self._head_bytes:  # a head in one piece is never too large
            self.context.request_limits.check_size(head_size(parser.get_method(), self.url, self.headers))
        self._head_bytes = 0
        if not parser.should_upgrade():  # else the parser stops here, and the head is parsed again
            self._start_request()
            self._stage = "body"  # now: an error in the target counts as one of the head

    def _start_request(self) -> None:
        parser = self.parser
        if self._is_idle() and parser.should_keep_alive() and parser.get_http_version() == "1.1":
            self._match = self.context.fast_path.match(parser.get_method(), self.url, self.headers)
        if self._match is None:
            self._build_request()
        else:
            self._body = bytearray()
            self.reply_to(self._match)

    def _is_idle(self) -> bool:
        """True if every request has been answered."""
        return self.cycle is None or self.cycle.response_complete

    def _build_request(self) -> None:
        """Let uvicorn make a request of the parsed head."""
        current = self.parser.get_http_version() == "1.1"
        url, headers = origin_form(self.url, self.headers, old=not current)
        expect = self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect and current  # RFC 9110, section 10.1.1
        self.headers += headers
        super().on_headers_complete()
        if not current:
            self.cycle.keep_alive = may_persist(self.parser.get_method(), self.headers)
        self.scope["extensions"] = {REQUEST: Request(self, self.cycle)}  # type: ignore[dict-item]
        self.headers = []  # the request has its own list: trailers must not be added to it

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running_cycle = cycle
        old = cycle.scope.get("http_version") == "1.0"
        super()._start_asgi_task(cycle, partial(_run, Persistence(app, cycle) if old else app))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._match is not None:
            self._body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._stage = "request"
        if (match := self._match) is not None:
            self._match = None
            if self._last_piece:
                self.context.fast_path.cache(self._last_piece, match)
            body = bytes(self._body)
            del self._body  # an idle connection keeps nothing
            self.loop.call_soon(serve_late, self, match, body)  # not within the parser's callback
        else:
            super().on_message_complete()

    # The fast path

    def reply_to(self, match: requests.Match) -> PublishReply:
        """The pending reply to a request of the fast path: the connection's own object, made ready for it."""
        reply = self._reply
        if reply is None:
            reply = self._reply = PublishReply(self)
        elif reply.match is match and not reply.response_complete:
            return reply  # `cycle` may be a later, pipelined request by now
        reply.match = match
        if self.context.access.all:
            reply.started = monotonic()
        reply.response_complete = False
        self.cycle = reply  # type: ignore[assignment]
        return reply

    # Limits

    def data_received(self, data: bytes) -> None:
        if self._reading_stopped:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._stage == "request" and self._is_idle() and (known := self.context.fast_path.lookup(data)):
            self._requests += 1
            serve(self, *known)
            return
        self._last_piece = data if self._stage == "request" else b""
        most = self.context.request_limits.max_head
        try:
            for start in range(0, len(data), most):
                self._feed(data[start : start + most])
            self._account_body()
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, PipelineFull):
                self._refuse(explain(error, data, self.loop))
        except (Refused, Overloaded) as error:
            self._refuse(error)

    def _account_body(self) -> None:
        """Count the incomplete body of a fast publish in the inbound budget. Raises Overloaded."""
        nbytes = len(self._body) if self._match is not None else 0
        if nbytes != self._accounted:
            self.broker.inbound.grow(self._accounted, nbytes)
            self._accounted = nbytes

    def _feed(self, piece: bytes) -> None:
        """Raises HeadTooLarge, TargetTooLong."""
        if self.parser is None:
            self._init_uvicorn()
        stage, requests, nbytes = self._stage, self._requests, self._body_bytes
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            self._parse_without_upgrade(piece, offer)
        if self._stage == "head":
            whole = self._requests - requests == (stage == "request")  # the piece holds nothing else
            self._head_bytes += len(piece) if whole else 1
            check_parts(self.url, self.headers)
        elif self._stage == stage == "body" and (requests, nbytes) == (self._requests, self._body_bytes):
            self._head_bytes += len(piece)
        else:
            return
        self.context.request_limits.check_size(self._head_bytes)

    def _parse_without_upgrade(self, piece: bytes, offer: httptools.HttpParserUpgrade | None) -> None:
        """The parser stops at a head with `Upgrade`, which a server may ignore (RFC 9110, section 7.8): a new parser
        reads that head again without it, and what follows. Raises UpgradeUnsupported."""
        while offer is not None:
            piece, offer = head_without_upgrade(self.parser, self.url, self.headers) + piece[offer.args[0] :], None
            self._requests -= 1
            self._last_piece = b""  # the parser did not see these bytes as they were received
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn: it is ignored
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as another:
                offer = another

    def check(self, now: float) -> None:
        """Close a connection that is too slow. Called about once a second."""
        if self.transport.is_closing():
            abort_when_sent(self.transport)
            return
        stage = self._awaited_stage()
        if self._slow_request is None:
            self._slow_request = SlowRequestDetector()
        if self._slow_request.is_slow(stage, self._requests, self._body_bytes, now, self.context.request_limits):
            if stage == "request":
                self.transport.close()
            else:
                self._refuse(RequestTimeout(f"the request's {self._stage} came too slowly"))

    def unsent(self) -> int:
        """Bytes of responses that the client has not read."""
        return self.transport.get_write_buffer_size()

    def _awaited_stage(self) -> Stage | None:
        """What the client should send next; None while it waits for the server, or while reading is paused."""
        if self._reading_stopped or self.pipeline or (self.flow is not None and self.flow.read_paused):
            return None
        idle = self._is_idle() and self.timeout_keep_alive_task is None
        return self._stage if idle or self._stage != "request" else None

    def _refuse(self, error: PlainmqError) -> None:
        """Refuse the incomplete request. If its response has begun already, only close the connection."""
        if self._stage != "body":
            self._refuse_and_close(error, self.url if self._stage == "head" else b"")
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.response_complete = self.cycle.disconnected = True
            if record := access_record(cast(dict[str, Any], self.cycle.scope)):
                record.superseded = True
            self.cycle.message_event.set()
            self._refuse_and_close(error, self.url)

    def _refuse_and_close(self, error: PlainmqError, target: bytes) -> None:
        """Reply with the error after all earlier requests, and read no more."""
        self._reading_stopped, self._match = True, None
        self._account_body()
        before, refusal = self.cycle, Refusal(self, error, target)
        self.cycle = refusal  # type: ignore[assignment]
        if before is None or before.response_complete:
            refusal.answer()
        else:
            self.pipeline.appendleft((refusal, self.app))  # type: ignore[arg-type]

    # An event stream

    def sink(self) -> StreamSink:
        """A sink on this connection."""
        return StreamSink(self.transport, self.connections, self.context)

    def take_over(
        self, sink: StreamSink, record: AccessRecord | None, subscription: Subscription, begin: Begin
    ) -> None:
        """Give the connection to the sink, and drop everything that requests needed."""
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.transport.set_protocol(sink)
        self._reading_stopped = True
        if self.flow is not None:
            self.flow.resume_reading()  # or a disconnect would not be noticed
            if self.flow.write_paused:
                subscription.pause()
        self._release()
        sink.open(raw_responses.stream(self.server_state), record, subscription, begin)

    # Called by the transport

    def pause_writing(self) -> None:
        """The client does not read. Its pipelined requests wait too, or responses would accumulate."""
        if self.flow is None:
            self._init_uvicorn()
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has closed its sending side. A pending publish is still answered. Any other request counts as
        abandoned, so that a long poll does not keep its slot."""
        reply, half = self._reply, self._match is not None
        if reply is None or half or self._is_idle() or reply is not cast(object, self.cycle):
            return False
        self._reading_stopped, reply.keep_alive = True, False
        return self.transport.can_write_eof()  # TLS closes by itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._match = None
        self._account_body()
        self.broker.counters.connections["http"] -= 1
        if self._running_cycle is not None:  # uvicorn notifies the latest request only
            self._running_cycle.disconnected = True
            self._running_cycle.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn's timer goes on after a reset
        self._release()

    def _release(self) -> None:
        """Drop what refers to the connection: memory is free at once, not when garbage is collected."""
        released: Any = None
        self.cycle = self._reply = self._running_cycle = self.scope = self.parser = released
        self.pipeline = released


async def _run(app: Any, scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Run the application. What its scope holds refers to the request, and the request to the scope."""
    try:
        await app(scope, receive, send)
    finally:
        scope.clear()
