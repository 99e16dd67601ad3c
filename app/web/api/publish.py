"""POST /topics/{topic}/messages: the body is the message, byte for byte; as NDJSON, each line is one."""

import re
from time import time
from typing import Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...broker.broker import Broker
from ...errors import EncodingUnsupported, MessageTooLarge, OptionInvalid
from ...messages.byte_order_mark import BYTE_ORDER_MARK
from ...messages.headers import parse_headers
from ...messages.message import (
    MAX_PUBLISH_DELAY,
    ONE,
    Draft,
    Envelope,
    Receipt,
    Scheduled,
    guess_content_type,
    parse_event,
    parse_key,
    rfc3339,
)
from ...messages.ordering import MAX_PRIORITY, make_ordering, parse_order_key
from ...messages.position import parse_time
from ...messages.units import format_duration, parse_duration
from ..authentication import client
from ..body import read_body
from ..permissions import topic_of
from ..query import Parser, boolean, choice, delivery, duration, integer, read_options
from ..responses import json_answer

BATCH: Final = "application/x-ndjson"
LINE: Final = "application/json"  # the content type of each line of a batch
# The default of curl, wget, Python and Java: it says nothing about the body.
DEFAULT_FORM_TYPE: Final = "application/x-www-form-urlencoded"

MAX_CONTENT_TYPE: Final = 255
_CHUNKED: Final = "chunked"
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


class Accepted(msgspec.Struct, omit_defaults=True):
    """The body of a 201. Only a batch has `last` and `count`."""

    id: str
    topic: str
    index: int
    subscribers: int
    durability: str
    last: str | None = None
    count: int | None = None
    duplicate: bool = False


class Postponed(msgspec.Struct, omit_defaults=True):
    """The body of a 202: the id of the publish, the number of messages, and when they are published."""

    id: str
    scheduled: int
    due: str
    topic: str
    durability: str
    duplicate: bool = False


async def publish(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    topic = topic_of(request)
    options, key = read_options(request, _OPTIONS), idempotency_key(request)
    delay, at = options.pop("delay", None), options.pop("at", None)
    if delay is not None and at is not None:
        raise OptionInvalid("`delay` and `at` both say when to publish: give one of them")
    for_groups = options.get("delivery") is not ONE and options.get("retain", True)
    ordering = make_ordering(options.pop("priority", 0), options.pop("key", None), for_groups=for_groups)
    content_type, headers = _content_type(request), parse_headers(request.headers.raw)
    batch = is_batch(content_type)
    bounds: PublishLimits = request.app.state.bounds
    body = await read_body(request, bounds.batch if batch else bounds.message)
    bodies = lines_of(body, bounds) if batch else [body]
    broker.quotas.publish(client(request), len(bodies))
    kind = LINE if batch else content_type or guess_content_type(body)
    envelope = Envelope(topic, kind, headers=headers, ordering=ordering, **options)
    answer = await broker.publish([Draft(envelope, bodies, delay, key, at)])
    if isinstance(answer, Scheduled):
        return _postponed(answer, topic, broker.log.durability)
    return accepted(answer, batch, broker.log.durability, 200 if answer.duplicate else 201)


def accepted(receipt: Receipt, batch: bool, durability: str, status: int) -> Response:
    body = Accepted(receipt.id, receipt.topic, receipt.index, receipt.subscribers, durability)
    if batch:
        body.last, body.count = receipt.last, receipt.count
    body.duplicate = receipt.duplicate
    location = f"/topics/{quote(receipt.topic)}/messages/{receipt.id}"
    return json_answer(body, status, {"Location": location})


def _postponed(answer: Scheduled, topic: str, durability: str) -> Response:
    body = Postponed(answer.id, answer.count, rfc3339(answer.due), topic, durability, answer.duplicate)
    return json_answer(body, 202, {"Location": f"/scheduled/{answer.id}"})


def parse_at(text: str, now: float) -> float:
    """An RFC 3339 time, at most as far ahead of `now` as a delay may be. Raises OptionInvalid."""
    at = parse_time(text)
    if at > now + MAX_PUBLISH_DELAY:
        raise OptionInvalid(f"at={text[:60]!a}: expected a time at most {format_duration(MAX_PUBLISH_DELAY)} from now")
    return at


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else parse_key(key)


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
