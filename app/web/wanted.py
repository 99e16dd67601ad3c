"""What a stream of the log is asked for: which topics, in which form, from where on and until when."""

from collections.abc import Collection
from typing import Final

import msgspec
from starlette.datastructures import QueryParams

from ..broker import Broker
from ..cohort import Reader
from ..frames import CHUNKED_JSON, CHUNKED_RAW, SSE_JSON, SSE_RAW, Form, Forms, SseForm, marked
from ..message import MARK, Message, parse_id
from ..position import LATEST, After, Start, parse_start
from ..sink import Sink
from ..topic import Selector
from .options import Parser, choice, duration, integer, of_event_source, parse_options
from .visitor import TICKET

LONGEST: Final = 3_600.0  # seconds that a stream may ask for

_FORMS: dict[str, Forms[SseForm[Message]]] = {"raw": Forms(SSE_RAW, CHUNKED_RAW), "json": Forms(SSE_JSON, CHUNKED_JSON)}


def _after(text: str) -> Start | None:
    """None when there is a mark and no id: a stream ended before it had one."""
    return None if text.startswith(MARK) else After(parse_id(text))


_OPTIONS: dict[str, Parser] = {
    "since": parse_start,
    "last_event_id": _after,
    "format": choice("format", _FORMS),
    "limit": integer("limit", 1, 1_000_000),
    "timeout": duration("timeout", LONGEST),
    TICKET: str,
}


class Wanted(msgspec.Struct, frozen=True):
    """`limit`: messages; `timeout`: seconds."""

    selector: Selector
    forms: Forms[SseForm[Message]]
    start: Start
    limit: int | None
    timeout: float | None

    def subscribe(self, broker: Broker, client: str | None, form: Form, sink: Sink) -> Reader:
        """`client`: whose it is, in quotas. Raises Draining, SubscriberLimit."""
        return broker.subscribe(self.selector, form, sink, aging=True, limit=self.limit, client=client)

    def begin(self, reader: Reader) -> None:
        reader.start(self.start)


def wanted(
    selector: Selector, query: QueryParams, last_event_id: str | None, repeatable: Collection[str] = (), mark: str = ""
) -> Wanted:
    """`last_event_id` is the header, which goes before the query: a browser that comes back sends the place that it has
    reached there. `mark`: what stands behind the stream's ids. Raises OptionInvalid."""
    options = parse_options(of_event_source(query), _OPTIONS, repeatable)
    single = len(selector.topics) == 1 and not selector.patterns
    seen = last_event_id and _after(last_event_id.strip(" \t"))  # RFC 9110, section 5.5; the parser leaves it on
    start = seen or options.get("last_event_id") or options.get("since", LATEST)
    forms: Forms[SseForm[Message]] = options.get("format", _FORMS["raw" if single else "json"])
    return Wanted(selector, marked(forms, mark) if mark else forms, start, options.get("limit"), options.get("timeout"))
