"""Request bodies: raw bytes, or JSON. The content type of JSON does not matter: `curl -d` calls it a form."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request

from ..errors import MessageTooLarge, OptionInvalid
from ..errors.wording import json_in_words, quoted
from ..limits.buffered_bytes import InboundBudget
from ..messages.byte_order_mark import BYTE_ORDER_MARK
from ..messages.json_keys import repeated_key
from .permissions import authorise_again

MAX_JSON_BYTES: Final = 64 << 10

T = TypeVar("T", bound=msgspec.Struct)


async def read_json(request: Request, kind: type[T], expected: str) -> T:
    """Decode the body; an empty one is an empty object, and a byte order mark is ignored (RFC 8259, section 8.1).
    `expected` is for the text of the error. Raises OptionInvalid, MessageTooLarge."""
    body = (await read_body(request, MAX_JSON_BYTES)).removeprefix(BYTE_ORDER_MARK)
    try:
        decoded, repeated = msgspec.json.decode(body or b"{}", type=kind), repeated_key(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionInvalid(f"the body is not {expected}: {json_in_words(error, body)}") from None
    if repeated is not None:
        raise OptionInvalid(f"the body is not {expected}: {quoted(repeated)} is given twice")
    return decoded


def changes(body: msgspec.Struct, readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The given fields, each parsed by its reader. Raises OptionInvalid."""
    return {name: readers[name](value) for name, value in given(body).items()}


def given(body: msgspec.Struct) -> dict[str, Any]:
    """The given fields; null counts as not given."""
    return {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. The request is authorised again when it is complete. Raises MessageTooLarge as soon as the body
    is known to exceed `limit` bytes, Overloaded, and the errors of authorisation."""
    announced = request.headers.get("content-length", "0")
    if int(announced) > limit:
        raise MessageTooLarge(f"the body has {announced} bytes; at most {limit} are accepted")
    inbound: InboundBudget = request.app.state.broker.inbound
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            if size + len(part) > limit:
                raise MessageTooLarge(f"the body has more than the {limit} bytes that are accepted")
            inbound.grow(size, size + len(part))
            size += len(part)
            parts.append(part)
        authorise_again(request)
        return b"".join(parts)
    finally:
        inbound.grow(size, 0)
