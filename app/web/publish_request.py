"""A publish by HTTP, as its head and its body say. The fast path (fastpath/requests.py) reads them by the same
functions."""

import re
from time import time
from typing import Any, Final

import msgspec
from starlette.requests import Request

from ..errors import EncodingUnsupported, LengthRequired, MessageTooLarge, OptionInvalid
from ..messages.byte_order_mark import BYTE_ORDER_MARK
from ..messages.headers import parse_headers
from ..messages.message import (
    MAX_PUBLISH_DELAY,
    ONE,
    Draft,
    Envelope,
    guess_content_type,
    parse_event,
    parse_idempotency_key,
)
from ..messages.ordering import MAX_PRIORITY, make_ordering, parse_order_key
from ..messages.position import parse_time
from ..messages.units import format_duration, parse_duration
from .permissions import topic_of
from .query import Parser, boolean, choice, delivery, duration, integer, read_options

BATCH: Final = "application/x-ndjson"
LINE: Final = "application/json"  # the content type of each line of a batch
# The default of curl, wget, Python and Java: it says nothing about the body.
DEFAULT_FORM_TYPE: Final = "application/x-www-form-urlencoded"

MAX_CONTENT_TYPE: Final = 255
_CHUNKED: Final = "chunked"
_LENGTHS: Final = frozenset({"content-length", "transfer-encoding"})
_CONTENT_TYPE = re.compile(r"[!-~][ -~]*")
_OPTIONS: dict[str, Parser] = {
    "event": parse_event,
    "delivery": choice("delivery", delivery),
    "retain": choice("retain", boolean),
    "ttl": parse_duration,
    "delay": duration("delay", MAX_PUBLISH_DELAY),
    "at": lambda text: parse_at(text, time()),
    "priority": integer("priority", 0, MAX_PRIORITY),
    "key": parse_order_key,
}


class PublishLimits(msgspec.Struct, frozen=True):
    """Bounds of a publish: bytes of a message, bytes of a batch, messages in a batch."""

    message: int = 1 << 20
    batch: int = 16 << 20
    batch_messages: int = 10_000


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the head says. `content_type`: as declared. `batch`: each line of the body is a message. `fields`: the other
    fields of the envelope."""

    topic: str
    content_type: str | None
    batch: bool
    delay: float | None
    at: float | None
    key: str | None
    fields: dict[str, Any]

    def max_body(self, limits: PublishLimits) -> int:
        """In bytes."""
        return limits.batch if self.batch else limits.message

    def draft(self, body: bytes, limits: PublishLimits) -> Draft:
        """Raises MessageTooLarge, OptionInvalid."""
        bodies = lines_of(body, limits) if self.batch else [body]
        content_type = LINE if self.batch else self.content_type or guess_content_type(body)
        return Draft(Envelope(self.topic, content_type, **self.fields), bodies, self.delay, self.key, self.at)


def parse_publish_request(request: Request) -> PublishRequest:
    """Raises OptionInvalid, EncodingUnsupported, LengthRequired."""
    topic = topic_of(request)
    _check_length(request)
    options, content_type = read_options(request, _OPTIONS), _content_type(request)
    key = idempotency_key(request)
    delay, at = options.pop("delay", None), options.pop("at", None)
    if delay is not None and at is not None:
        raise OptionInvalid("`delay` and `at` both say when to publish: give one of them")
    for_groups = options.get("delivery") is not ONE and options.get("retain", True)
    ordering = make_ordering(options.pop("priority", 0), options.pop("key", None), for_groups=for_groups)
    fields = options | {"headers": parse_headers(request.headers.raw), "ordering": ordering}
    batch = is_batch(content_type)
    return PublishRequest(
        topic=topic, content_type=content_type, batch=batch, delay=delay, at=at, key=key, fields=fields
    )


def parse_at(text: str, now: float) -> float:
    """An RFC 3339 time, at most as far ahead of `now` as a delay may be. Raises OptionInvalid."""
    at = parse_time(text)
    if at > now + MAX_PUBLISH_DELAY:
        raise OptionInvalid(f"at={text[:60]!a}: expected a time at most {format_duration(MAX_PUBLISH_DELAY)} from now")
    return at


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else parse_idempotency_key(key)


def _check_length(request: Request) -> None:
    """Raises LengthRequired."""
    if request.scope["http_version"] == "1.0" and _LENGTHS.isdisjoint(request.headers.keys()):
        raise LengthRequired("a publish of HTTP/1.0 needs a Content-Length; that of an empty message is 0")


def _content_type(request: Request) -> str | None:
    if encoding := request.headers.get("content-encoding"):
        raise EncodingUnsupported(f"Content-Encoding is {encoding[:60]!a}: send the message as it is, so it is stored")
    coding = request.headers.get("transfer-encoding", _CHUNKED)
    if coding.strip().lower() != _CHUNKED:
        raise EncodingUnsupported(
            f"Transfer-Encoding is {coding[:60]!a}: expected chunked, which is all that is undone"
        )
    return declared_content_type(request.headers.get("content-type", ""))


def declared_content_type(content_type: str) -> str | None:
    """The declared content type; None if there is none, or only a client's default. Raises OptionInvalid."""
    return read_content_type(content_type) if content_type and content_type.lower() != DEFAULT_FORM_TYPE else None


def read_content_type(content_type: str) -> str:
    """The content type, if it can be stored. Raises OptionInvalid."""
    if len(content_type) > MAX_CONTENT_TYPE or not _CONTENT_TYPE.fullmatch(content_type):
        raise OptionInvalid(f"Content-Type is not 1 to {MAX_CONTENT_TYPE} characters of printable ASCII")
    return content_type


def is_batch(content_type: str | None) -> bool:
    return content_type is not None and content_type.partition(";")[0].strip().lower() == BATCH


def lines_of(body: bytes, bounds: PublishLimits) -> list[bytes]:
    """The non-empty lines of a batch. Raises MessageTooLarge, OptionInvalid."""
    every = body.removeprefix(BYTE_ORDER_MARK).split(b"\n", bounds.batch_messages + 1)
    if len(every) > bounds.batch_messages + 1:  # empty ones too: millions of them would take a second to sort out
        raise MessageTooLarge(f"the batch has more than the {bounds.batch_messages} lines that are accepted")
    lines = [*filter(None, _without_returns(every) if b"\r" in body else every)]
    if not lines:
        raise OptionInvalid("the batch has no message: expected at least one line that is not empty")
    if len(lines) > bounds.batch_messages:
        raise MessageTooLarge(f"the batch has {len(lines)} messages; at most {bounds.batch_messages} are accepted")
    longest = max(map(len, lines))
    if longest > bounds.message:
        raise MessageTooLarge(f"a line of the batch has {longest} bytes; at most {bounds.message} are accepted")
    return lines


def _without_returns(lines: list[bytes]) -> list[bytes]:
    """Without the one before each line feed; a line of nothing else is empty. Searching 16 MB for pairs, or a line for
    other bytes, would take the event loop many times as long as this."""
    bare = [*(line.removesuffix(b"\r") for line in lines[:-1]), lines[-1]]
    return [line for line in bare if not line.startswith(b"\r") or line != b"\r" * len(line)]
