"""The options of lists that come in pages."""

from collections.abc import Iterable
from typing import Final

from ...messages.topic import TopicFilter
from ..query import Parser, choice, integer

MOST: Final = 1_000  # items of a page
USUAL: Final = 100
PAGE_LIMIT: Final = integer("limit", 1, MOST)


def list_options(sorts: Iterable[str]) -> dict[str, Parser]:
    """Those of a ListQuery."""
    return {
        "match": lambda text: TopicFilter([text]),
        "sort": choice("sort", {name: name for name in sorts}),
        "after": str,
        "limit": PAGE_LIMIT,
    }
