"""The body of a request that is settings or ids, in JSON, whatever the content type says: `curl -d` calls it a form."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request

from ..errors import OptionInvalid
from ..wording import in_words
from .publish import read_body

MOST_BYTES: Final = 64 << 10

T = TypeVar("T", bound=msgspec.Struct)


async def read_json(request: Request, kind: type[T], expected: str) -> T:
    """An empty body is an empty object. Raises OptionInvalid, with what was `expected`; MessageTooLarge."""
    body = await read_body(request, MOST_BYTES)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionInvalid(f"the body is not {expected}: {in_words(error)}") from None


def changes(body: msgspec.Struct, readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The fields that were given, each as its reader reads it. Raises OptionInvalid."""
    return {name: readers[name](value) for name, value in given(body).items()}


def given(body: msgspec.Struct) -> dict[str, Any]:
    """The fields that were given; null is none."""
    return {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}
