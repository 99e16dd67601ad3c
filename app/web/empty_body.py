"""Requests without a body. Its fields would be ignored: a purge with `{"before":"1h"}` would purge everything. So it is
refused."""

from typing import Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from ..errors import OptionInvalid
from ..errors.wording import json_in_words
from ..messages.byte_order_mark import BYTE_ORDER_MARK

MAX_EMPTY: Final = 1 << 10  # bytes of an empty object with the blanks around it
_REFUSED: Final = "this request takes no body, and its options are in the query, as in ?name=value"


class _Empty(msgspec.Struct, forbid_unknown_fields=True):
    """What clients send that always send JSON."""


_decode: Final = msgspec.json.Decoder(_Empty).decode


def announces_body(scope: Scope) -> bool:
    return any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in scope["headers"]
    )


async def refuse_body(receive: Receive) -> None:
    """Read the body; it may be an empty object. Raises OptionInvalid, ClientDisconnect."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_EMPTY:
            raise OptionInvalid(f"{_REFUSED}; this one has more than {MAX_EMPTY} bytes")
        more = message.get("more_body", False)
    try:
        _decode(body.removeprefix(BYTE_ORDER_MARK).strip() or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionInvalid(f"{_REFUSED}: {json_in_words(error, body)}") from None
