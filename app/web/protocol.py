"""Below ASGI: what of HTTP needs the connection itself. The app works without this file, at ASGI's price.

A stream that ASGI serves keeps a task, a queue and a request alive for every reader. Here the response hands its
connection over instead: the protocol object is the reader's sink, and what a request needed is dropped.
"""

from collections.abc import Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..cohort import Reader
from ..frames import CHUNKED_RAW, farewell

CONNECTION: Final = "plainmq.connection"  # the ASGI extension under which a request finds its Connection
LINGER: Final = 10.0  # seconds that an ended stream has to take what was written before it is cut off

_FRAMING: Final = {b"transfer-encoding": b"chunked", b"connection": b"close"}  # nothing can follow a stream
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, which can also become the sink of an event stream."""

    _reader: Reader | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]

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

    # The sink of a reader

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
