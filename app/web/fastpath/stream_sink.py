"""The sink of an event stream that has taken its connection over. It replaces the HTTP protocol at the transport, so
that a waiting subscriber keeps nothing of HTTP in memory.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ...net.progress import ALL, Progress, last_progress, progress
from ...net.sockets import abort_when_sent, acknowledged
from ..middleware.access_log import AccessRecord
from ..sse import CHUNKED_RAW, end_event, stream_start
from ..streaming.lifetime import REVOKED
from ..streaming.takeover import Begin, Subscription
from .context import ServerContext

LINGER: Final = 10.0  # seconds that an ended stream has to read what was written before it is cut off

_LAST_CHUNK: Final = b"0\r\n\r\n"


class StreamSink(asyncio.Protocol):
    """`connections`: all of the server, this one among them."""

    __slots__ = (
        "_connections",
        "_context",
        "_ended",
        "_first",
        "_last",
        "_record",
        "_subscription",
        "_watched",
        "resume_id",
        "transport",
        "write",
    )  # fmt: skip
    write: Callable[[bytes], None]

    def __init__(self, transport: asyncio.Transport, connections: set[Any], context: ServerContext) -> None:
        self.transport = transport
        self._connections = connections
        self._context = context
        self._subscription: Subscription | None = None
        self._record: AccessRecord | None = None
        self._ended = False  # after everything that was written
        self._watched = False  # somebody has asked for the progress
        self._last: Progress | None = None  # at the end of the connection
        self.resume_id = ""  # the last event id for a client that reconnects before it has received another

    def open(self, head: bytes, record: AccessRecord | None, subscription: Subscription, begin: Begin) -> None:
        """Send the head (which lacks only the empty line) together with the subscription's first bytes. `record`: of
        the request, for the log."""
        self._connections.add(self)
        self._record = record
        self._subscription = subscription
        broker = self._context.broker
        broker.counters.answers[200] += 1
        own = b"".join([b"%b: %b\r\n" % header for header in record.response_headers]) if record and record.id else b""
        first = CHUNKED_RAW.join([stream_start(broker.admission.pressure, self.resume_id)])
        self._first = b"%b%b\r\n%b" % (head, own, first)
        self.write = self._write_first
        if opened := begin():
            opened.add_done_callback(self._open_without_bytes)
        else:
            self._open_without_bytes()

    def _open_without_bytes(self, _opened: object = None) -> None:
        """Send the head, if the subscription has not written anything yet."""
        if self._first and self._subscription is not None:
            self._write_first(b"")

    def _write_first(self, data: bytes) -> None:
        first, self._first = self._first, b""
        self.write = self.transport.write  # the hot path: no Python call between the cohort and the socket
        self.write(first + data)

    def pending(self) -> int:
        return self.transport.get_write_buffer_size() - acknowledged(self.transport)

    def progress(self) -> Progress:
        self._watched = True
        known = self._last or progress(self.transport)
        return known._replace(open=True) if self._ended and self._last is None else known

    def end(self, reason: str) -> None:
        self._set_end_reason(reason)
        self._ended = True
        self.write(CHUNKED_RAW.join([end_event(reason, self._context.broker.admission.pressure)]) + _LAST_CHUNK)
        self._release()
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(LINGER, self.abort)
        self.transport.close()

    def abort(self) -> None:
        self._set_end_reason("cut_off")
        self._ended = False
        self._release()
        self.transport.abort()

    def revoke(self) -> None:
        if self._subscription is not None:
            self._subscription.end(REVOKED)

    def _release(self) -> None:
        subscription, self._subscription = self._subscription, None  # the two refer to each other
        if subscription is not None:
            self._context.authenticator.unregister(self, lost=not self._ended)
            subscription.detach()

    def _set_end_reason(self, why: str) -> None:
        if self._record is not None and not self._record.end_reason:
            self._record.end_reason = why

    # Called by the server

    def check(self, _now: float) -> None:
        """Called once a second. A closing connection whose client does not read is cut off."""
        if self.transport.is_closing():
            abort_when_sent(self.transport)

    def unsent(self) -> int:
        """0: unsent bytes of streams are counted by the fan-out."""
        return 0

    def shutdown(self) -> None:
        """The server stops."""
        self.transport.close()

    # Called by the transport. Data from the client is ignored

    def pause_writing(self) -> None:
        if self._subscription is not None:
            self._subscription.pause()

    def resume_writing(self) -> None:
        if self._subscription is not None:
            self._subscription.resume()

    def eof_received(self) -> None:
        """The transport closes by itself. Over TLS it must not be written to any more."""
        self._release()

    def connection_lost(self, exc: Exception | None) -> None:
        self._last = ALL if self._ended and exc is None else last_progress(self.transport, self._watched)
        self._release()
        self._connections.discard(self)
        self._context.broker.counters.connections["http"] -= 1
        if self._record is not None:
            self._record.is_stream = True
            self._record.log(self._context.access)
