"""Server-sent events: the encoders of messages and leases, and the server's own events.

WHATWG HTML, section 9.2: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, Self

from sse_starlette import ServerSentEvent

from ..fanout.encoder import T
from ..messages.lease import Lease
from ..messages.message import ID_MARK, Message, is_utf8
from ..messages.position import Gap
from ..messages.record import as_data_url, as_lease_record, as_record, encode_json, one_line, shown_event


def retry_delay(pressure: float) -> int:
    """Milliseconds until a client should reconnect. They are random, so that clients do not all come at once, and
    longer under more pressure (0 to 1)."""
    return int(_MIN_RETRY + (_USUAL_RETRY - _MIN_RETRY + (_MAX_RETRY - _USUAL_RETRY) * pressure) * random.random())


_MIN_RETRY, _USUAL_RETRY, _MAX_RETRY = 1_000, 5_000, 30_000

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"  # events are always UTF-8, but some clients guess otherwise
STREAM_HEADERS: Final = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx must not buffer
}


def stream_start(pressure: float, id: str = "") -> bytes:
    """The beginning of every stream. No blank line ends it: some clients take one for the end of a message. `id`: the
    last event id for a client that reconnects before it has received another."""
    return b": plainmq\nretry: %d\n" % retry_delay(pressure) + (position_event_of(id) if id else b"")


def position_event_of(id: str) -> bytes:
    """The event that gives a client its position. An id without a position consists of a mark only."""
    return control_event("place", {"place": id.partition(ID_MARK)[0] or None}, id=id)


def end_event(reason: str, pressure: float) -> bytes:
    """The last event of a stream that the server ends, with the time after which the client should reconnect. Empty for
    an end that the client asked for."""
    return b"" if reason in {"limit", "timeout"} else refusal("bye", reason, pressure)


def refusal(event: str, reason: str, pressure: float, id: str = "") -> bytes:
    """The only event of a stream that is refused now: `busy` or `bye`. `id`: the last event id to come back with."""
    return control_event(event, {"reason": reason}, retry=retry_delay(pressure), id=id or None)


def control_event(event: str, data: Any, retry: int | None = None, id: str | None = None) -> bytes:
    """An event of the server's own. Most have no id, so that the client's last event id stays. All have data: many
    clients deliver events without data as empty messages."""
    return ServerSentEvent(encode_json(data).decode(), event=event, retry=retry, id=id, sep="\n").encode()


def sse_raw(message: Message) -> bytes:
    """The body in `data`, a field per line; as a `data:` URL if lines could not restore the same bytes."""
    data = message.data
    if b"\r" in data or not (data.isascii() or is_utf8(data)):
        data = as_data_url(message).encode()
    elif b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"id: %b-%d\n%bdata: %b\n\n" % (message.epoch.encode(), message.seq, _event_field(message), data)


def _event_field(message: Message) -> bytes:
    return f"event: {event}\n".encode() if (event := shown_event(message)) else b""


def sse_json(message: Message) -> bytes:
    """The message's record in `data`."""
    return _sse_record(message, as_record(message))


def _sse_record(message: Message, record: dict[str, Any]) -> bytes:
    """One JSON object in `data`, as one line."""
    data = one_line(encode_json(record))
    return b"id: %b-%d\n%bdata: %b\n\n" % (message.epoch.encode(), message.seq, _event_field(message), data)


def sse_lease(lease: Lease) -> bytes:
    """The message's record with its lease in `data`."""
    return _sse_record(lease.message, as_lease_record(lease))


class SseEncoder(Generic[T]):
    """Encodes server-sent events for an ASGI server, which adds the transfer coding."""

    keep_alive = b":\n"
    kind = "stream"
    is_subscriber = True

    def __init__(self, encode: Callable[[T], bytes], mark: bytes = b"") -> None:
        """`mark`: a suffix of every id."""
        self._encode = encode
        self._mark = mark
        self.encode = self._marked if mark else encode

    def marked(self, mark: str) -> Self:
        return type(self)(self._encode, mark.encode())

    def _marked(self, item: T) -> bytes:
        return self._encode(item).replace(b"\n", self._mark + b"\n", 1)  # an event's first line is its id

    def join(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)

    def gap(self, gap: Gap) -> bytes:
        return control_event("gap", gap)

    def position_event(self, id: str) -> bytes:
        """An EventSource that is cut off now reconnects with this id. The page need not listen for the event."""
        return position_event_of(id + self._mark.decode())


def as_chunk(*parts: bytes) -> bytes:
    """The bytes as one chunk of HTTP/1.1 (RFC 9112, section 7.1). Without bytes the result is empty, since an
    empty chunk would end the stream."""
    size = sum(map(len, parts))
    return b"".join((b"%x\r\n" % size, *parts, b"\r\n")) if size else b""


class ChunkedSseEncoder(SseEncoder[T]):
    """Encodes server-sent events as HTTP/1.1 chunks, which are written to the socket."""

    keep_alive = b"2\r\n:\n\r\n"

    def join(self, frames: Sequence[bytes]) -> bytes:
        return as_chunk(*frames)


SSE_RAW = SseEncoder(sse_raw)
SSE_JSON = SseEncoder(sse_json)
CHUNKED_RAW = ChunkedSseEncoder(sse_raw)
CHUNKED_JSON = ChunkedSseEncoder(sse_json)
SSE_LEASE = SseEncoder(sse_lease)
CHUNKED_LEASE = ChunkedSseEncoder(sse_lease)


class Encoders(NamedTuple, Generic[T]):
    """One encoder twice: for an ASGI server, and for the socket."""

    plain: T
    chunked: T


@lru_cache(maxsize=1_024)
def marked(encoders: Encoders[SseEncoder[T]], mark: str) -> Encoders[SseEncoder[T]]:
    """The encoders with a mark. Equal arguments give the same objects, so that subscribers share the bytes."""
    return Encoders(*(encoder.marked(mark) for encoder in encoders))
