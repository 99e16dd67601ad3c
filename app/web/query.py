"""Options in a query string: each once, each known. A misspelt option is an error, not silence."""

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request

from ..errors import OptionInvalid
from ..messages.message import Delivery
from ..messages.units import format_duration, parse_duration

Parser = Callable[[str], Any]


def read_options(request: Request, parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """The options that were given, parsed. Raises OptionInvalid."""
    return parse_options(request.query_params, parsers)


def read_stream_options(request: Request, parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """The same of a request that may be an EventSource's. Raises OptionInvalid."""
    return parse_options(of_event_source(request.query_params), parsers)


def parse_options(
    query: QueryParams, parsers: Mapping[str, Parser], repeatable: Collection[str] = ()
) -> dict[str, Any]:
    """The same; the repeatable ones are the caller's to read. Raises OptionInvalid."""
    options: dict[str, Any] = {}
    for name, value in query.multi_items():
        if name in repeatable:
            continue
        if name not in parsers:
            raise OptionInvalid(_unknown(name, [*parsers, *repeatable]))
        if name in options:
            raise OptionInvalid(f"option {name!r} is given twice")
        options[name] = parsers[name](value)
    return options


# Under which names EventSource polyfills and libraries put the last id into the query, where they can set no header
# (event-source-polyfill, reconnecting-eventsource, eventsource-polyfill, clients of Mercure), and what else they put
# there.
_LAST_ID: Final = "last_event_id"
_COME_BACK: Final = frozenset({"lastEventId", "lastEventID", "last-event-id", "Last-Event-ID", "evs_last_event_id"})
_NOISE: Final = frozenset({"r", "_", "evs_preamble", "evs_buffer_size_limit"})


def of_event_source(query: QueryParams) -> QueryParams:
    """The query of a stream as it is meant: the id under our own name, whoever has put it there. The last one counts,
    for a client that comes back puts its own behind what the page has said; and an empty one says nothing."""
    items = [(name, value) for name, value in query.multi_items() if name not in _NOISE]
    ids = [value for name, value in items if name in _COME_BACK and value]
    others = [item for item in items if item[0] not in _COME_BACK]
    if not ids:
        return QueryParams(others)
    return QueryParams([*(item for item in others if item[0] != _LAST_ID), (_LAST_ID, ids[-1])])


def _unknown(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known) or 'none'}"
    return f"{name[:60]!a} is not an option here; {hint}"


def choice(name: str, values: Mapping[str, Any]) -> Parser:
    """A parser of one of a few words."""

    def parse(text: str) -> Any:
        if text not in values:
            raise OptionInvalid(f"{name}={text[:60]!a}: expected {' or '.join(values)}")
        return values[text]

    return parse


def integer(name: str, least: int, most: int) -> Parser:
    """A parser of a whole number within bounds."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise OptionInvalid(f"{name}={text[:60]!a}: expected a whole number from {least} to {most}")
        return int(text)

    return parse


def duration(name: str, most: float, least: float = 0.0) -> Parser:
    """A parser of a duration within bounds, in seconds."""

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not least <= seconds <= most:
            bounds = f"from {format_duration(least)} to {format_duration(most)}"
            raise OptionInvalid(f"{name}={text[:60]!a}: expected a duration {bounds}")
        return seconds

    return parse


boolean = {"true": True, "false": False}
delivery = {mode.value: mode for mode in Delivery}
