"""The options of lists that come in pages."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import Request

from ...errors import OptionInvalid
from ...messages.topic import MAX_LENGTH
from ..permissions import MATCH, matched_by
from ..query import Parser, choice, integer, read_options

MOST: Final = 1_000  # items of a page
USUAL: Final = 100
PAGE_LIMIT: Final = integer("limit", 1, MOST)


def search(text: str) -> str:
    """The parser of a text to search for, which case does not matter for. Raises OptionInvalid."""
    if len(text) > MAX_LENGTH:
        raise OptionInvalid(f"search has at most {MAX_LENGTH} characters; this one has {len(text)}")
    return text.lower()


def list_options(sorts: Iterable[str]) -> dict[str, Parser]:
    """Those of a ListQuery, besides `match`."""
    return {
        "search": search,
        "sort": choice("sort", {name: name for name in sorts}),
        "after": str,
        "limit": PAGE_LIMIT,
    }


def read_list_options(request: Request, parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """The options, with `match`, which may be given several times. Raises OptionInvalid, TopicInvalid."""
    options = read_options(request, parsers, (MATCH,))
    if MATCH in request.query_params:
        options[MATCH] = matched_by(request)
    return options
