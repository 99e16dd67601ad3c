"""Options of a query string. Each must be known and given once: a misspelt option is an error."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request

from ..errors import OptionInvalid, OptionUnknown
from ..errors.suggestions import suggestion
from ..messages.message import Delivery
from ..messages.units import format_duration, parse_duration

Parser = Callable[[str], Any]


def read_options(request: Request, parsers: Mapping[str, Parser], repeatable: Collection[str] = ()) -> dict[str, Any]:
    """The options that were given, parsed, without the repeatable ones. Raises OptionInvalid."""
    return parse_options(request.query_params, parsers, repeatable)


def read_stream_options(request: Request, parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """The options of a request that may come from an EventSource, parsed. Raises OptionInvalid."""
    return parse_options(normalise_event_source(request.query_params), parsers)


def parse_options(
    query: QueryParams, parsers: Mapping[str, Parser], repeatable: Collection[str] = ()
) -> dict[str, Any]:
    """The options of a query, parsed, without the repeatable ones, which the caller reads. Raises OptionInvalid."""
    options: dict[str, Any] = {}
    for name, value in query.multi_items():
        if name in repeatable:
            continue
        if name not in parsers:
            raise OptionUnknown(_unknown(name, [*parsers, *repeatable]))
        if name in options:
            raise OptionInvalid(f"option {name!r} is given twice")
        options[name] = parsers[name](value)
    return options


# EventSource polyfills and libraries that cannot set a header put the last id into the query under these names, with
# other options of their own (event-source-polyfill, reconnecting-eventsource, eventsource-polyfill, Mercure clients).
_LAST_ID: Final = "last_event_id"
_LAST_ID_ALIASES: Final = frozenset(
    {"lastEventId", "lastEventID", "last-event-id", "Last-Event-ID", "evs_last_event_id"}
)
_IGNORED: Final = frozenset({"r", "_", "evs_preamble", "evs_buffer_size_limit"})


def normalise_event_source(query: QueryParams) -> QueryParams:
    """The query of a stream with the last id under its standard name. Of several the last one counts, because a client
    that reconnects appends its own to the page's URL. An empty one does not count, and equal ones are one."""
    items = [(name, value) for name, value in query.multi_items() if name not in _IGNORED]
    ids = [value for name, value in items if name in _LAST_ID_ALIASES and value]
    standard = dict.fromkeys(value for name, value in items if name == _LAST_ID and value)
    others = [item for item in items if item[0] not in {*_LAST_ID_ALIASES, _LAST_ID}]
    return QueryParams([*others, *((_LAST_ID, id) for id in ids[-1:] or standard)])


def check_name(name: str, query: QueryParams) -> None:
    """Raises OptionInvalid if the option was given under a similar name only."""
    if name not in query:
        other = suggestion(name, query.keys())
        if other is not None:
            raise OptionUnknown(_unknown(other, [name]))


def _unknown(name: str, known: list[str]) -> str:
    close = suggestion(name, known)
    listed = f"expected one of {', '.join(known)}" if known else "there are none"
    hint = f"did you mean {close!r}?" if close else listed
    return f"{name[:60]!a} is not an option here; {hint}"


def choice(name: str, values: Mapping[str, Any]) -> Parser:
    """A parser for one of a few words."""

    def parse(text: str) -> Any:
        if text not in values:
            raise OptionInvalid(f"{name}={text[:60]!a}: expected {' or '.join(values)}")
        return values[text]

    return parse


def integer(name: str, least: int, most: int) -> Parser:
    """A parser for a whole number within bounds."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise OptionInvalid(f"{name}={text[:60]!a}: expected a whole number from {least} to {most}")
        return int(text)

    return parse


def duration(name: str, most: float, least: float = 0.0) -> Parser:
    """A parser for a duration within bounds, in seconds."""

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not least <= seconds <= most:
            bounds = f"from {format_duration(least)} to {format_duration(most)}"
            raise OptionInvalid(f"{name}={text[:60]!a}: expected a duration {bounds}")
        return seconds

    return parse


boolean = {"true": True, "false": False}
delivery = {mode.value: mode for mode in Delivery}
