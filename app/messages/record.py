"""JSON records: messages and leases as dictionaries for streams, pages and the command line."""

from base64 import b64encode
from typing import Any, Final

import msgspec

from .lease import Lease
from .message import Death, Message, is_reserved, rfc3339

MAX_SHOWN: Final = 64 << 10  # bytes of a body that is looked at

encode_json = msgspec.json.Encoder().encode

_LINE_ENDS: Final = {chr(code).encode(): rb"\u%04x" % code for code in (0x85, 0x2028, 0x2029)}  # JSON has these raw


def one_line(json: bytes) -> bytes:
    """The same JSON with the line ends of Unicode as escapes: clients that read lines often end one there, as Python's
    `str.splitlines` does. Text without any, which is almost all, costs one search."""
    if not json.isascii():
        for end, escape in _LINE_ENDS.items():
            json = json.replace(end, escape)
    return json


def as_text(message: Message) -> str:
    """The body as text; a body that is not UTF-8 as a `data:` URL (RFC 2397)."""
    try:
        return message.data.decode()
    except UnicodeDecodeError:
        return as_data_url(message)


def as_data_url(message: Message) -> str:
    return f"data:{message.content_type};base64,{b64encode(message.data).decode()}"


def shown_event(message: Message) -> str | None:
    """None for a stored name that has become reserved since: no client may take it for an event of the server."""
    return None if message.event is None or is_reserved(message.event) else message.event


def as_record(message: Message) -> dict[str, Any]:
    """A body that is not UTF-8 is in `data_base64` instead of `data`."""
    record: dict[str, Any] = {
        "id": message.id,
        "topic": message.topic,
        "index": message.index,
        "time": rfc3339(message.time),
        "event": shown_event(message),
        "content_type": message.content_type,
    }
    try:
        record["data"] = message.data.decode()
    except UnicodeDecodeError:
        record["data_base64"] = b64encode(message.data).decode()
    if message.headers is not None:
        record["headers"] = msgspec.Raw(message.headers)
    if message.death is not None:
        record["dead"] = as_death_record(message.death)
    if message.ordering is not None:
        record |= message.ordering.shown
    if message.redrive is not None:
        record["original"] = message.redrive.original
    return record


def shown_headers(headers: bytes | None) -> dict[str, Any]:
    return {} if headers is None else {"headers": msgspec.Raw(headers)}


def shown_body(body: bytes) -> dict[str, Any]:
    """A body for people to look at: of a long one the beginning, which ends with a whole character."""
    end = MAX_SHOWN
    while MAX_SHOWN - 4 < end < len(body) and body[end] & 0xC0 == 0x80:
        end -= 1
    shown = body[:end]
    record: dict[str, Any] = {"truncated": True} if len(shown) < len(body) else {}
    try:
        return record | {"data": shown.decode()}
    except UnicodeDecodeError:
        return record | {"data_base64": b64encode(shown).decode()}


def as_death_record(death: Death) -> dict[str, Any]:
    """Why the message is in a dead-letter topic."""
    times = {"first_failure": rfc3339(death.first_failure), "last_failure": rfc3339(death.last_failure)}
    return msgspec.structs.asdict(death) | times


def as_lease_record(lease: Lease) -> dict[str, Any]:
    """The record of the message, with the lease's attempt, id and end."""
    return as_record(lease.message) | {
        "attempt": lease.attempt,
        "lease": lease.id,
        "lease_expires": rfc3339(lease.expires),
    }
