"""A stream request, parsed: which topics, in which format, from where on and until when."""

from asyncio import Future
from collections.abc import Collection
from typing import Any, Final

import msgspec
from starlette.datastructures import QueryParams

from ...broker.broker import Broker
from ...fanout.encoder import Encoder
from ...fanout.sink import Sink
from ...fanout.subscriber import Subscriber
from ...messages.message import ID_MARK, Message, parse_id
from ...messages.position import LATEST, After, Start, parse_start
from ...messages.topic import TopicFilter
from ..authentication import TICKET
from ..query import Parser, choice, duration, integer, normalise_event_source, parse_options
from ..sse import CHUNKED_JSON, CHUNKED_RAW, SSE_JSON, SSE_RAW, Encoders, SseEncoder, marked

LONGEST: Final = 3_600.0  # seconds; the most that the option `timeout` allows

_ENCODERS: dict[str, Encoders[SseEncoder[Message]]] = {
    "raw": Encoders(SSE_RAW, CHUNKED_RAW),
    "json": Encoders(SSE_JSON, CHUNKED_JSON),
}


def _after(text: str) -> Start | None:
    """None for a mark without an id: the stream ended before it had one."""
    return None if text.startswith(ID_MARK) else After(parse_id(text))


_OPTIONS: dict[str, Parser] = {
    "since": parse_start,
    "last_event_id": _after,
    "format": choice("format", _ENCODERS),
    "limit": integer("limit", 1, 1_000_000),
    "timeout": duration("timeout", LONGEST),
    TICKET: str,
}


class StreamRequest(msgspec.Struct, frozen=True):
    """`limit`: in messages; `timeout`: in seconds."""

    topic_filter: TopicFilter
    encoders: Encoders[SseEncoder[Message]]
    start: Start
    limit: int | None
    timeout: float | None

    def subscribe(self, broker: Broker, client: str | None, who: str, encoder: Encoder, sink: Sink) -> Subscriber:
        """`client`: its owner in quotas. Raises Draining, SubscriberLimit."""
        return broker.subscribe(self.topic_filter, encoder, sink, aging=True, limit=self.limit, client=client, who=who)

    def start_subscriber(self, subscriber: Subscriber) -> "Future[Any] | None":
        return subscriber.start(self.start)


def parse_stream_request(
    topic_filter: TopicFilter,
    query: QueryParams,
    last_event_id: str | None,
    repeatable: Collection[str] = (),
    mark: str = "",
) -> StreamRequest:
    """`last_event_id`: the header, which overrides the query: it is where a reconnecting browser sends its position.
    `mark`: a suffix for the ids of the stream. Raises OptionInvalid."""
    options = parse_options(normalise_event_source(query), _OPTIONS, repeatable)
    single = len(topic_filter.topics) == 1 and not topic_filter.patterns
    header = last_event_id and _after(last_event_id.strip(" \t"))  # RFC 9110, section 5.5; the parser keeps the blanks
    start = header or options.get("last_event_id") or options.get("since", LATEST)
    encoders: Encoders[SseEncoder[Message]] = options.get("format", _ENCODERS["raw" if single else "json"])
    return StreamRequest(
        topic_filter, marked(encoders, mark) if mark else encoders, start, options.get("limit"), options.get("timeout")
    )
