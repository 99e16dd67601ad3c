"""GET /topics/{topic}/stream: server-sent events, from any place of the log to live."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ..broker import Broker
from ..cohort import Reader, Sink
from ..frames import CHUNKED_JSON, CHUNKED_RAW, SSE_JSON, SSE_RAW, Form
from ..message import parse_id
from ..position import LATEST, After, Start, parse_start
from ..topic import Selector
from .door import selection_of, selections_of
from .ending import ending
from .eventstream import EventStream, Forms
from .options import Parser, choice, duration, integer, read_options
from .visitor import TICKET, client

LONGEST: Final = 3_600.0  # seconds that a stream may ask for

_FORMS: dict[str, Forms[Form]] = {"raw": Forms(SSE_RAW, CHUNKED_RAW), "json": Forms(SSE_JSON, CHUNKED_JSON)}


def _after(text: str) -> Start:
    return After(parse_id(text))


_OPTIONS: dict[str, Parser] = {
    "since": parse_start,
    "last_event_id": _after,
    "format": choice("format", _FORMS),
    "limit": integer("limit", 1, 1_000_000),
    "timeout": duration("timeout", LONGEST),
    TICKET: str,
}


async def stream_topic(request: Request) -> Response:
    """One topic, or the topics that a pattern matches."""
    return _stream(request, selection_of(request), read_options(request, _OPTIONS))


async def stream_topics(request: Request) -> Response:
    """Several topics and patterns, in the order of the log."""
    options = read_options(request, _OPTIONS, repeatable=["topic"])
    return _stream(request, selections_of(request), options)


def _stream(request: Request, selector: Selector, options: Mapping[str, Any]) -> Response:
    broker: Broker = request.app.state.broker
    single = len(selector.topics) == 1 and not selector.patterns
    forms = options.get("format", _FORMS["raw" if single else "json"])
    start, limit = _start(request, options), options.get("limit")

    def subscribe(form: Form, sink: Sink) -> Reader:
        return broker.subscribe(selector, form, sink, aging=True, limit=limit, client=client(request))

    until = ending(request, options.get("timeout"))
    return EventStream(broker, forms, subscribe, lambda reader: reader.start(start), until)


def _start(request: Request, options: Mapping[str, Any]) -> Start:
    """A header before the query, because a browser that comes back sends the place it has reached in the header."""
    if header := request.headers.get("last-event-id"):
        return _after(header.strip(" \t"))  # RFC 9110, section 5.5; the parser leaves it on
    start: Start = options.get("last_event_id") or options.get("since", LATEST)
    return start
