"""Below ASGI: what of HTTP needs the connection itself. The app works without this file, at ASGI's price.

An event stream: ASGI keeps a task, a queue and a request alive for every reader. Here the response hands its connection
over instead: the protocol object is the reader's sink, and what the request needed is dropped.

A publish: ASGI builds a scope, a task, a request and a response for it. Here a plain one (web/shortcut.py says which)
goes from the parser to the broker, and its answer from the broker to the socket.
"""

from asyncio import Event, Future
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..broker import Broker
from ..cohort import Reader
from ..errors import PlainmqError
from ..frames import CHUNKED_RAW, farewell
from ..message import Receipt
from . import shortcut
from .problem import refusal_of

CONNECTION: Final = "plainmq.connection"  # the ASGI extension under which a request finds its Connection
LINGER: Final = 10.0  # seconds that an ended stream has to take what was written before it is cut off

_FRAMING: Final = {b"transfer-encoding": b"chunked", b"connection": b"close"}  # nothing can follow a stream
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Owed:
    """Stands where uvicorn keeps the current request while a short-cut publish waits for the log: what is pipelined
    behind it waits too, and a stop lets it finish."""

    def __init__(self) -> None:
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = Event()


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, with two short cuts."""

    _reader: Reader | None = None
    _shortcut: shortcut.Shortcut | None = None
    _body: bytearray

    # A request: short cut or not

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        parser, state = self.parser, self.config.app.state  # type: ignore[union-attr]
        if parser.should_keep_alive() and (self.cycle is None or self.cycle.response_complete):
            self._shortcut = shortcut.find(parser.get_method(), self.url, self.headers, state.bounds.message)
        if self._shortcut is None:
            self._build_request()
        else:
            self._body = bytearray()

    def _build_request(self) -> None:
        """What uvicorn does at a message's begin, now that its head is known."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._shortcut is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._shortcut is None:
            super().on_message_complete()
        else:
            self._publish(self._shortcut)

    # A publish

    def _publish(self, short: shortcut.Shortcut) -> None:
        broker: Broker = self.config.app.state.broker  # type: ignore[union-attr]
        draft, self._shortcut = short.draft(bytes(self._body)), None
        try:
            future = broker.publish([draft])
        except PlainmqError as error:
            self._refuse(error)
            return
        if future.done():
            self._answer(broker, future)
        else:
            self.cycle = Owed()  # type: ignore[assignment]
            future.add_done_callback(lambda done: self._answer(broker, done))

    def _answer(self, broker: Broker, future: "Future[Any]") -> None:
        if error := future.exception():
            self._refuse(error if isinstance(error, PlainmqError) else PlainmqError("the log failed"))
            return
        receipt: Receipt = future.result()
        self._respond(HTTPStatus.CREATED, *shortcut.accepted(receipt, broker.engine.durability))

    def _refuse(self, error: PlainmqError) -> None:
        response = refusal_of(error)
        self._respond(response.status_code, *shortcut.refused(response))

    def _respond(self, status: int, head: bytes, body: bytes) -> None:
        keep_alive = self.cycle is None or self.cycle.keep_alive
        if self.cycle is not None:
            self.cycle.response_complete = True
        common = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        close = b"" if keep_alive else b"connection: close\r\n"
        self.transport.write(b"%b%b%b%b\r\n%b" % (STATUS_LINE[status], common, head, close, body))
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    # An event stream

    @property
    def gone(self) -> bool:
        """The client has left before its stream began."""
        return self.cycle.disconnected

    def hold(self, reader: Reader, headers: Sequence[tuple[bytes, bytes]], first: bytes) -> None:
        """Become the reader's sink: send the head of a chunked 200 and `first`, and drop what the request needed."""
        every = dict([*self.server_state.default_headers, *headers]) | _FRAMING
        head = b"".join([b"%b: %b\r\n" % header for header in every.items()])
        self.write = self.transport.write  # the hot path: no frame of ours between a cohort and the socket
        self.write(b"%b%b\r\n%b" % (STATUS_LINE[200], head, first))
        self.cycle.response_started = self.cycle.response_complete = True  # uvicorn: nothing is owed any more
        self._reader = reader
        self.pipeline.clear()
        released: Any = None
        self.cycle = self.scope = self.headers = self.parser = released

    def pending(self) -> int:
        return self.transport.get_write_buffer_size()

    def end(self, reason: str) -> None:
        self.write(CHUNKED_RAW.wrap([farewell(reason)]) + _LAST_CHUNK)
        self._release()
        if self.pending():
            self.loop.call_later(LINGER, self.transport.abort)
        self.transport.close()

    def abort(self) -> None:
        self._release()
        self.transport.abort()

    def _release(self) -> None:
        if self._reader is not None:
            self._reader.close()

    # What the transport says

    def data_received(self, data: bytes) -> None:
        if self._reader is None:  # a client has nothing to say to a stream
            super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader is not None:
            self._reader.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)
