"""Headers of a message: short texts that its publisher keeps with it, by name, such as `traceparent` or a title.

Over HTTP a header of the message is the request header `X-Plainmq-NAME`; the headers of Trace Context and CloudEvents
keep the names that their standards give them. A message has them as one JSON object, because a byte string takes little
memory, is stored as it is, and goes into every JSON form without being encoded again.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from ..errors import OptionInvalid
from .control_characters import has_control_characters

MAX_HEADERS: Final = 32  # of one message
MAX_HEADER_BYTES: Final = 4 << 10  # of their names and values together: more belongs into the body
PREFIX: Final = b"x-plainmq-"

_STANDARD: Final = (b"traceparent", b"tracestate")  # W3C Trace Context
_CLOUD_EVENTS: Final = b"ce-"  # the HTTP binding of CloudEvents, binary mode
_NAME = re.compile(rb"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def is_message_header(field: bytes) -> bool:
    """Whether a request's field of this name, in lower case, is a header of its message."""
    return field.startswith((PREFIX, _CLOUD_EVENTS)) or field in _STANDARD


def parse_headers(fields: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The headers of a message among the fields of its request, whose names are in lower case; None if there are none.
    Of a name that comes several times, the values are joined (RFC 9110, section 5.3). Raises OptionInvalid."""
    headers: dict[str, str] = {}
    for field, value in fields:
        if is_message_header(field):
            name, text = _name(field), _text(field, value)
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
    if not headers:
        return None
    if len(headers) > MAX_HEADERS:
        raise OptionInvalid(f"the message has {len(headers)} headers; at most {MAX_HEADERS} are accepted")
    nbytes = sum(len(name) + len(value.encode()) for name, value in headers.items())
    if nbytes > MAX_HEADER_BYTES:
        raise OptionInvalid(f"the message's headers have {nbytes} bytes; at most {MAX_HEADER_BYTES} are accepted")
    return bytes(memoryview(_encode(headers)))  # a copy: what the encoder returns leaves a gap behind it in memory


def _name(field: bytes) -> str:
    name = field.removeprefix(PREFIX)
    if _NAME.fullmatch(name):
        return name.decode()
    raise OptionInvalid(
        f"{field[:80].decode('latin-1')!a} names no header of a message: after X-Plainmq- expected 1 to 64 letters, "
        f"digits, '.', '_' and '-', beginning and ending with a letter or a digit"
    )


def _text(field: bytes, value: bytes) -> str:
    try:
        if not has_control_characters(value):
            return value.decode()
    except UnicodeDecodeError:
        pass
    raise OptionInvalid(
        f"the header {field[:80].decode('latin-1')!a} is not UTF-8, or has control characters: expected text"
    )


def response_fields(headers: bytes) -> dict[str, str]:
    """The headers as fields of a response. Their values are characters of Latin-1, as those of all fields."""
    return {_field(name): value.encode().decode("latin-1") for name, value in _decode(headers).items()}


def _field(name: str) -> str:
    return name if is_message_header(name.encode()) else f"X-Plainmq-{name}"
