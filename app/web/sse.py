import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, Self

from sse_starlette import ServerSentEvent

from ..fanout.encoder import T
from ..messages.lease import Lease
from ..messages.message import ID_MARK, Message, is_utf8
from ..messages.position import Gap
from ..messages.record import _event, as_data_url, as_lease_record, as_record, encode_json


def retry_delay(pressure: float) -> int:
    """Milliseconds until a reader comes back: different for each, so that they do not all come at once, and spread the
    more the greater the server's pressure is (0 to 1)."""
    return int(_SOONEST + (_USUAL - _SOONEST + (_LATEST - _USUAL) * pressure) * random.random())


_SOONEST, _USUAL, _LATEST = 1_000, 5_000, 30_000

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"  # always so, but some clients guess where nobody says it
STREAM_HEADERS: Final = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx shall not wait for more
}


def hello(pressure: float, id: str = "") -> bytes:
    """What every stream begins with. No blank line ends it: some clients take one for the end of a message. `id`: what
    its reader shall come back with, until it is told another."""
    return b": plainmq\nretry: %d\n" % retry_delay(pressure) + (placed(id) if id else b"")


def placed(id: str) -> bytes:
    """A reader's id, which may be no more than a mark."""
    return control("place", {"place": id.partition(ID_MARK)[0] or None}, id=id)


def farewell(reason: str, pressure: float) -> bytes:
    """The last event of a stream that the server ends, with the time after which the reader shall come back.
    An end that the reader asked for needs no word."""
    return b"" if reason in {"limit", "timeout"} else refusal("bye", reason, pressure)


def refusal(event: str, reason: str, pressure: float, id: str = "") -> bytes:
    """The only event of a stream that cannot be had now: `busy` or `bye`. `id`: what its reader comes back with."""
    return control(event, {"reason": reason}, retry=retry_delay(pressure), id=id or None)


def control(event: str, data: Any, retry: int | None = None, id: str | None = None) -> bytes:
    """An event of our own. Most carry no id: with them the reader keeps its place. All have data, since
    many clients hand on blocks without, as empty messages."""
    return ServerSentEvent(encode_json(data).decode(), event=event, retry=retry, id=id, sep="\n").encode()


# Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream


def sse_raw(message: Message) -> bytes:
    """The body in `data`, a field per line; as a `data:` URL when those lines could not give back the same bytes."""
    data = message.data
    if b"\r" in data or not (data.isascii() or is_utf8(data)):
        data = as_data_url(message).encode()
    elif b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"id: %b-%d\n%bdata: %b\n\n" % (message.epoch.encode(), message.seq, _event_field(message), data)


def _event_field(message: Message) -> bytes:
    return f"event: {event}\n".encode() if (event := _event(message)) else b""


def sse_json(message: Message) -> bytes:
    """One JSON object in `data`."""
    return _sse_record(message, as_record(message))


def _sse_record(message: Message, record: dict[str, Any]) -> bytes:
    """JSON escapes line ends, so it is always one line."""
    data = encode_json(record)
    return b"id: %b-%d\n%bdata: %b\n\n" % (message.epoch.encode(), message.seq, _event_field(message), data)


def sse_lease(lease: Lease) -> bytes:
    """What a worker gets: the message, and its lease."""
    return _sse_record(lease.message, as_lease_record(lease))


class SseEncoder(Generic[T]):
    """Server-sent events, for a server that adds the transfer coding itself."""

    keep_alive = b":\n"
    kind = "stream"
    is_subscriber = True

    def __init__(self, encode: Callable[[T], bytes], mark: bytes = b"") -> None:
        """`mark`: what stands behind every id."""
        self._encode = encode
        self._mark = mark
        self.encode = self._marked if mark else encode

    def marked(self, mark: str) -> Self:
        return type(self)(self._encode, mark.encode())

    def _marked(self, what: T) -> bytes:
        return self._encode(what).replace(b"\n", self._mark + b"\n", 1)  # an event's first line is its id

    def join(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)

    def gap(self, gap: Gap) -> bytes:
        return control("gap", gap)

    def position_event(self, id: str) -> bytes:
        """An EventSource that is cut off now comes back with the id; its page need not listen."""
        return placed(id + self._mark.decode())


class ChunkedSseEncoder(SseEncoder[T]):
    """Server-sent events as HTTP/1.1 chunks (RFC 9112, section 7.1), written straight to the socket."""

    keep_alive = b"2\r\n:\n\r\n"

    def join(self, frames: Sequence[bytes]) -> bytes:
        size = sum(map(len, frames))
        return b"".join((b"%x\r\n" % size, *frames, b"\r\n")) if size else b""  # an empty chunk would end the stream


SSE_RAW = SseEncoder(sse_raw)
SSE_JSON = SseEncoder(sse_json)
CHUNKED_RAW = ChunkedSseEncoder(sse_raw)
CHUNKED_JSON = ChunkedSseEncoder(sse_json)
SSE_LEASE = SseEncoder(sse_lease)
CHUNKED_LEASE = ChunkedSseEncoder(sse_lease)


class Encoders(NamedTuple, Generic[T]):
    """One form twice: for a server that adds the transfer coding itself, and written straight to the socket."""

    plain: T
    chunked: T


@lru_cache(maxsize=1_024)
def marked(forms: Encoders[SseEncoder[T]], mark: str) -> Encoders[SseEncoder[T]]:
    """The same forms whenever forms and mark are the same, so that their readers share the bytes."""
    return Encoders(*(form.marked(mark) for form in forms))
