"""GET /topics/{topic}/stream: server-sent events, from any place of the log to live."""

from collections.abc import Collection
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ...messages.topic import TopicFilter
from ..authentication import client, grant_of, mark_of, place_of
from ..permissions import selection_of, selections_of
from ..streaming.lifetime import StreamLifetime
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
    wish = parse_stream_request(
        topic_filter, request.query_params, request.headers.get("last-event-id"), repeatable, mark_of(request)
    )
    stay = StreamLifetime(state.authenticator, grant_of(request), wish.timeout)
    subscribe = partial(wish.subscribe, state.broker, client(request))
    return EventStream(state.broker, wish.forms, subscribe, wish.begin, stay, place=place_of(request))
