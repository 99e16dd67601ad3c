"""A message's wire forms. A form builds a message's frame once, whoever listens; a cohort writes the same bytes to all.

Frames of one turn leave as one batch: `wrap` joins them and adds what surrounds a batch on the wire.
"""

import random
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

import msgspec
from sse_starlette import ServerSentEvent

from .core.lease import Lease
from .message import HERE, MARK, Death, Message, is_reserved, is_utf8, rfc3339
from .position import Gap
from .steering import CODES

T = TypeVar("T")

KINDS: Final = ("stream", "line", "read")  # of readers; the last waits until there is something, and is no subscriber

encode_json = msgspec.json.Encoder().encode


class Form(Protocol):
    """How messages look to one kind of reader. Readers that share a form (the same object) share its bytes."""

    def encode(self, message: Message, /) -> bytes: ...

    def wrap(self, frames: Sequence[bytes]) -> bytes: ...

    def gap(self, gap: Gap) -> bytes:
        """The frame that tells of a loss; empty where the protocol has no word for it."""
        ...

    def place(self, id: str) -> bytes:
        """The frame that gives a reader its place before it has a message; empty where there is no word for it."""
        ...

    keep_alive: bytes

    kind: str
    """What its readers are, one of KINDS."""

    takes: bool
    """Whether its readers are subscribers: they are counted, and handed what is for one of them."""


class LeaseForm(Protocol):
    """How leases look to one kind of worker."""

    def encode(self, lease: Lease, /) -> bytes: ...

    def wrap(self, frames: Sequence[bytes]) -> bytes: ...

    def gap(self, gap: Gap) -> bytes:
        """The frame that tells what was gone before the group began; empty where the protocol has no word for it."""
        ...

    keep_alive: bytes


def as_text(message: Message) -> str:
    """The body as text; a body that is not UTF-8 as a `data:` URL (RFC 2397)."""
    try:
        return message.data.decode()
    except UnicodeDecodeError:
        return as_data_url(message)


def as_data_url(message: Message) -> str:
    return f"data:{message.content_type};base64,{b64encode(message.data).decode()}"


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
    return control("place", {"place": id.partition(MARK)[0] or None}, id=id)


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


def _event(message: Message) -> str | None:
    """Its name, unless it was stored under one that is the server's own now: nobody shall take it for ours."""
    return None if message.event is None or is_reserved(message.event) else message.event


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


def as_record(message: Message) -> dict[str, Any]:
    """The message as people and programs read it in JSON: over streams, pages and the command line alike."""
    record: dict[str, Any] = {
        "id": message.id,
        "topic": message.topic,
        "index": message.index,
        "time": rfc3339(message.time),
        "event": _event(message),
        "content_type": message.content_type,
    }
    try:
        record["data"] = message.data.decode()
    except UnicodeDecodeError:
        record["data_base64"] = b64encode(message.data).decode()
    if message.death is not None:
        record["dead"] = as_death_record(message.death)
    return record


def as_death_record(death: Death) -> dict[str, Any]:
    """Why the message is in a dead-letter topic."""
    times = {"first_failure": rfc3339(death.first_failure), "last_failure": rfc3339(death.last_failure)}
    return msgspec.structs.asdict(death) | times


def as_lease_record(lease: Lease) -> dict[str, Any]:
    """The message, and a worker's lease of it."""
    return as_record(lease.message) | {
        "attempt": lease.attempt,
        "lease": lease.id,
        "lease_expires": rfc3339(lease.expires),
    }


class SseForm(Generic[T]):
    """Server-sent events, for a server that adds the transfer coding itself."""

    keep_alive = b":\n"
    kind = "stream"
    takes = True

    def __init__(self, encode: Callable[[T], bytes], mark: bytes = b"") -> None:
        """`mark`: what stands behind every id."""
        self._encode = encode
        self._mark = mark
        self.encode = self._marked if mark else encode

    def marked(self, mark: str) -> Self:
        return type(self)(self._encode, mark.encode())

    def _marked(self, what: T) -> bytes:
        return self._encode(what).replace(b"\n", self._mark + b"\n", 1)  # an event's first line is its id

    def wrap(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)

    def gap(self, gap: Gap) -> bytes:
        return control("gap", gap)

    def place(self, id: str) -> bytes:
        """An EventSource that is cut off now comes back with the id; its page need not listen."""
        return placed(id + self._mark.decode())


class ChunkedSseForm(SseForm[T]):
    """Server-sent events as HTTP/1.1 chunks (RFC 9112, section 7.1), written straight to the socket."""

    keep_alive = b"2\r\n:\n\r\n"

    def wrap(self, frames: Sequence[bytes]) -> bytes:
        size = sum(map(len, frames))
        return b"".join((b"%x\r\n" % size, *frames, b"\r\n")) if size else b""  # an empty chunk would end the stream


SSE_RAW = SseForm(sse_raw)
SSE_JSON = SseForm(sse_json)
CHUNKED_RAW = ChunkedSseForm(sse_raw)
CHUNKED_JSON = ChunkedSseForm(sse_json)
SSE_LEASE = SseForm(sse_lease)
CHUNKED_LEASE = ChunkedSseForm(sse_lease)


class Forms(NamedTuple, Generic[T]):
    """One form twice: for a server that adds the transfer coding itself, and written straight to the socket."""

    plain: T
    chunked: T


@lru_cache(maxsize=1_024)
def marked(forms: Forms[SseForm[T]], mark: str) -> Forms[SseForm[T]]:
    """The same forms whenever forms and mark are the same, so that their readers share the bytes."""
    return Forms(*(form.marked(mark) for form in forms))


class NewsForm:
    """For who waits until there is something to read: no bytes of the message, only that there was one."""

    keep_alive = b""
    kind = "read"
    takes = False

    def encode(self, message: Message) -> bytes:  # noqa: ARG002
        return b"."

    def wrap(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)

    def gap(self, gap: Gap) -> bytes:  # noqa: ARG002
        return b"."

    def place(self, id: str) -> bytes:  # noqa: ARG002
        return b""


NEWS = NewsForm()

# The line port


class _Lines:
    """Nothing stands around a line."""

    keep_alive = b""

    def wrap(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class _JsonLines(_Lines):
    """A gap shows as a jump of the index."""

    def gap(self, gap: Gap) -> bytes:  # noqa: ARG002
        return b""


class _WordsLines(_Lines):
    def gap(self, gap: Gap) -> bytes:
        return f"GAP {gap.sentence}\r\n".encode()


class LineForm(_Lines):
    """One line a message."""

    kind = "line"
    takes = True

    def encode(self, message: Message) -> bytes:
        raise NotImplementedError

    def gap(self, gap: Gap) -> bytes:
        raise NotImplementedError

    def place(self, id: str) -> bytes:  # noqa: ARG002
        return b""


class LiteralForm(LineForm):
    """Python literals: the very line that was sent; a message from another door looks like one."""

    def encode(self, message: Message) -> bytes:
        if message.line is not None:
            return message.line.replace(HERE, message.data)
        try:
            msg: str | bytes = message.data.decode()
        except UnicodeDecodeError:
            msg = message.data
        return f"{ {'command': 'send', 'topic': message.topic, 'msg': msg} }\n".encode()

    def gap(self, gap: Gap) -> bytes:
        return f"{ {'success': False, 'reason': gap.sentence} }\n".encode()


def _sent(message: Message) -> dict[str, Any]:
    return {
        "command": "send",
        "topic": message.topic,
        "msg": as_text(message),
        "delivery": message.delivery.value,
        "index": message.index,
    }


class JsonForm(_JsonLines, LineForm):
    """JSON: the `send` object with its index."""

    def encode(self, message: Message) -> bytes:
        return encode_json(_sent(message)) + b"\r\n"


class JsonLeaseForm(_JsonLines):
    """JSON, for a worker: the same with the message's id and the attempt."""

    def encode(self, lease: Lease) -> bytes:
        return encode_json(_sent(lease.message) | {"id": lease.message.id, "attempt": lease.attempt}) + b"\r\n"


class WordsForm(_WordsLines, LineForm):
    """Words for people: control characters and backslashes are shown as escapes, so that a line stays one."""

    def encode(self, message: Message) -> bytes:
        return f"MSG {message.topic} {message.id} {escaped(as_text(message))}\r\n".encode()


class WordsLeaseForm(_WordsLines):
    """Words, for a worker: which lease it is, and the text."""

    def encode(self, lease: Lease) -> bytes:
        message = lease.message
        return f"JOB {message.topic} {lease.id} {escaped(as_text(message))}\r\n".encode()


_ESCAPES = (
    {code: f"\\u{code:04x}" for code in CODES}
    | {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
    | {code: f"\\x{code:02x}" for code in (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0))}
)


def escaped(text: str) -> str:
    """Text that cannot end a line or steer a terminal."""
    return text.translate(_ESCAPES)


LITERAL = LiteralForm()
JSON = JsonForm()
WORDS = WordsForm()
JSON_LEASE = JsonLeaseForm()
WORDS_LEASE = WordsLeaseForm()
