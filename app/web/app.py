"""The HTTP door: which route leads where."""

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ExceptionHandler, Lifespan

from ..broker import Broker
from ..errors import PlainmqError
from .groups import delete_group, get_group, put_group
from .guard import Guard, Rules
from .health import livez, readyz
from .metrics import metrics
from .problem import explain, fail, forget, refuse
from .publish import publish
from .queue import ack, extend, nack, pull, stream_work
from .read import read_message, read_messages
from .shortcut import Shortcuts
from .stream import stream_topic, stream_topics
from .topics import delete_topic, get_topic, list_topics, put_topic

# A path that can be read in two ways is what its last word says: so the order.
ROUTES = [
    Route("/topics/{topic:path}/groups/{group}/pull", pull, methods=["POST"]),
    Route("/topics/{topic:path}/groups/{group}/ack", ack, methods=["POST"]),
    Route("/topics/{topic:path}/groups/{group}/nack", nack, methods=["POST"]),
    Route("/topics/{topic:path}/groups/{group}/extend", extend, methods=["POST"]),
    Route("/topics/{topic:path}/groups/{group}/stream", stream_work, methods=["GET"]),
    Route("/topics/{topic:path}/messages", publish, methods=["POST"]),
    Route("/topics/{topic:path}/messages", read_messages, methods=["GET"]),
    Route("/topics/{topic:path}/messages/{id}", read_message, methods=["GET"]),
    Route("/topics/{topic:path}/stream", stream_topic, methods=["GET"]),
    Route("/stream", stream_topics, methods=["GET"]),
    Route("/topics/{topic:path}/groups/{group}", get_group, methods=["GET"]),
    Route("/topics/{topic:path}/groups/{group}", put_group, methods=["PUT"]),
    Route("/topics/{topic:path}/groups/{group}", delete_group, methods=["DELETE"]),
    Route("/topics", list_topics, methods=["GET"]),
    Route("/topics/{topic:path}", get_topic, methods=["GET"]),
    Route("/topics/{topic:path}", put_topic, methods=["PUT"]),
    Route("/topics/{topic:path}", delete_topic, methods=["DELETE"]),
    Route("/livez", livez, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]


EXCEPTION_HANDLERS: dict[Any, ExceptionHandler] = {
    PlainmqError: refuse,
    HTTPException: explain,
    ClientDisconnect: forget,
    Exception: fail,
}


_EXPOSED = ["Location", "Link", "Retry-After"]  # headers that a page of another site may read


class Bounds(msgspec.Struct, frozen=True):
    """What the door takes in: bytes of a message and of a batch, messages in a batch."""

    message: int = 1 << 20
    batch: int = 16 << 20
    batch_messages: int = 10_000


def create_app(
    broker: Broker | None, bounds: Bounds, rules: Rules, lifespan: Lifespan[Starlette] | None = None
) -> Starlette:
    """The app over a broker. A lifespan that opens the broker itself sets `app.state.broker`."""
    app = Starlette(
        routes=ROUTES, middleware=_middleware(rules), exception_handlers=EXCEPTION_HANDLERS, lifespan=lifespan
    )
    app.router.redirect_slashes = False  # a redirected POST loses its body
    app.state.broker = broker
    app.state.bounds = bounds
    app.state.shortcuts = Shortcuts(bounds.message, rules)
    return app


def _middleware(rules: Rules) -> list[Middleware]:
    guard = Middleware(Guard, rules=rules)
    if not rules.origins:
        return [guard]
    cors = Middleware(
        CORSMiddleware, allow_origins=[*rules.origins], allow_methods=["*"], expose_headers=_EXPOSED,
        allow_headers=["Content-Type", "Idempotency-Key", "Last-Event-ID"],
    )  # fmt: skip
    return [guard, cors]
