"""GET /topics/{topic}/stream and GET /stream: server-sent events, from any position of the log to live."""

from collections.abc import Collection
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ...messages.topic import TopicFilter
from ..authentication import client, holder, mark_of
from ..permissions import selection_of, selections_of
from ..streaming.lifetime import lifetime_of
from ..streaming.response import EventStream
from ..streaming.stream_request import parse_stream_request


async def stream_topic(request: Request) -> Response:
    """One topic, or the topics that a pattern matches."""
    return _stream(request, selection_of(request))


async def stream_topics(request: Request) -> Response:
    """Several topics and patterns, in the order of the log."""
    return _stream(request, selections_of(request), repeatable=["topic"])


def _stream(request: Request, topic_filter: TopicFilter, repeatable: Collection[str] = ()) -> Response:
    state = request.app.state
    stream_request = parse_stream_request(
        topic_filter, request.query_params, request.headers.get("last-event-id"), repeatable, mark_of(request)
    )
    lifetime = lifetime_of(request, stream_request.timeout)
    subscribe = partial(stream_request.subscribe, state.broker, client(request), holder(request))
    return EventStream(state.broker, stream_request.encoders, subscribe, stream_request.start_subscriber, lifetime)
