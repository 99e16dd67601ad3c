"""Keys that stand twice in an object of JSON. Readers disagree which of the values counts (RFC 8259, section 4): what a
proxy has checked may not be what the server does. So such requests are refused."""

import json
from typing import Any, Final


class _Repeated(Exception):
    """`args`: the key."""


def repeated_key(data: bytes) -> str | None:
    """A key that an object of this valid JSON has twice. Raises RecursionError for JSON that is nested too deeply."""
    if data.count(b":") < 2:
        return None
    try:
        _DECODER.decode(data.decode())
    except _Repeated as error:
        return str(error)
    return None


def _check(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _Repeated(key)
        seen.add(key)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_check, parse_int=str, parse_float=str)
