"""GET /stats and GET /stats/stream: what the server does now, for the console and for scripts."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...broker.broker import Broker
from ...broker.stats_viewer import StatsViewer
from ...fanout.sink import Sink
from ..authentication import TICKET, client
from ..query import Parser, boolean, choice, duration, read_options, read_stream_options
from ..responses import NEVER_STORED, json_answer
from ..sse import Encoders, as_chunk
from ..streaming import stream_request
from ..streaming.lifetime import lifetime_of
from ..streaming.response import EventStream
from .server import state_of

_OPTIONS: Final[dict[str, Parser]] = {"history": choice("history", boolean)}
_STREAM_OPTIONS: Final[dict[str, Parser]] = {
    "timeout": duration("timeout", stream_request.LONGEST),
    "last_event_id": str,  # ignored: nothing is repeated, but a reconnecting client sends it
    TICKET: str,
}


async def get_stats(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    options = read_options(request, _OPTIONS)
    snapshot = await broker.stats.latest()
    record: dict[str, Any] = {"server": state_of(broker), "now": snapshot.now}
    record |= msgspec.structs.asdict(snapshot.matters)
    if options.get("history"):
        record["history"] = [*broker.stats.history]
    return json_answer(record, headers=NEVER_STORED)


async def stream_stats(request: Request) -> Response:
    """A sample every second, as server-sent events of the type `stats`."""
    state = request.app.state
    timeout: float | None = read_stream_options(request, _STREAM_OPTIONS).get("timeout")
    subscribe: Callable[[Callable[[bytes], bytes], Sink], StatsViewer] = partial(
        state.broker.watch_stats, client=client(request)
    )
    encoders, lifetime = Encoders(_event, _event_chunk), lifetime_of(request, timeout)
    return EventStream(state.broker, encoders, subscribe, StatsViewer.start, lifetime)


def _event(sample: bytes) -> bytes:
    return b"event: stats\ndata: " + sample + b"\n\n"


def _event_chunk(sample: bytes) -> bytes:
    return as_chunk(_event(sample))
