"""The HTTP door: which route leads where."""

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ExceptionHandler, Lifespan

from ..access.doorkeeper import Doorkeeper
from ..broker import Broker
from ..errors import PlainmqError
from ..telemetry.accesslog import AccessLog
from .description import description
from .door import (
    CHANGE,
    EVERYBODY,
    GROUP_STATE,
    KNOWN,
    LIST,
    LOOK_INSIDE,
    PUBLISH,
    READ,
    READ_ONE,
    STATE,
    STREAM,
    STREAMS,
    WORK,
    WORK_STREAM,
    Door,
)
from .exchange import Watched
from .forwarded import Forwarded, Proxies
from .groups import delete_group, get_group, put_group
from .guard import Guard, Rules
from .headers import SecurityHeaders
from .health import livez, readyz
from .metrics import metrics
from .persistence import Persistence
from .problem import explain, fail, forget, refuse
from .publish import Bounds, publish
from .queue import ack, extend, nack, pull, stream_work
from .read import read_message, read_messages
from .session import delete_session, post_session, post_ticket
from .stream import stream_topic, stream_topics
from .topics import delete_topic, get_topic, list_topics, put_topic
from .upgrade import Upgrades

# Who may pass stands behind each. A path that can be read in two ways is what its last word says: so the order.
ROUTES = [
    Door("POST", "/topics/{topic:path}/groups/{group}/pull", pull, WORK),
    Door("POST", "/topics/{topic:path}/groups/{group}/ack", ack, WORK),
    Door("POST", "/topics/{topic:path}/groups/{group}/nack", nack, WORK),
    Door("POST", "/topics/{topic:path}/groups/{group}/extend", extend, WORK),
    Door("GET", "/topics/{topic:path}/groups/{group}/stream", stream_work, WORK_STREAM),
    Door("POST", "/topics/{topic:path}/messages", publish, PUBLISH),
    Door("GET", "/topics/{topic:path}/messages", read_messages, READ),
    Door("GET", "/topics/{topic:path}/messages/{id}", read_message, READ_ONE),
    Door("GET", "/topics/{topic:path}/stream", stream_topic, STREAM),
    Door("GET", "/stream", stream_topics, STREAMS),
    Door("GET", "/topics/{topic:path}/groups/{group}", get_group, GROUP_STATE),
    Door("PUT", "/topics/{topic:path}/groups/{group}", put_group, CHANGE),
    Door("DELETE", "/topics/{topic:path}/groups/{group}", delete_group, CHANGE),
    Door("GET", "/topics", list_topics, LIST),
    Door("GET", "/topics/{topic:path}", get_topic, STATE),
    Door("PUT", "/topics/{topic:path}", put_topic, CHANGE),
    Door("DELETE", "/topics/{topic:path}", delete_topic, CHANGE),
    Door("POST", "/tickets", post_ticket, KNOWN),
    Door("POST", "/session", post_session, KNOWN),
    Door("DELETE", "/session", delete_session, EVERYBODY),
    Door("GET", "/openapi.json", description, EVERYBODY),
    Door("GET", "/livez", livez, EVERYBODY),
    Door("GET", "/readyz", readyz, EVERYBODY),
    Door("GET", "/metrics", metrics, LOOK_INSIDE),
]


EXCEPTION_HANDLERS: dict[Any, ExceptionHandler] = {
    PlainmqError: refuse,
    HTTPException: explain,
    ClientDisconnect: forget,
    Exception: fail,
}


_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
_EXPOSED = ["Location", "Link", "Retry-After", "WWW-Authenticate", "X-Request-ID"]  # that a page elsewhere may read


class Network(msgspec.Struct, frozen=True):
    """How clients reach us: through these proxies; `public_host`: by https under this name, if at all."""

    proxies: Proxies = Proxies()
    public_host: str = ""


def create_app(
    broker: Broker | None,
    keeper: Doorkeeper | None,
    bounds: Bounds,
    rules: Rules,
    lifespan: Lifespan[Starlette] | None = None,
    *,
    network: Network = Network(),  # noqa: B008
) -> Starlette:
    """The app over a broker. A lifespan that makes the broker and the keeper itself sets them in `app.state`."""
    app = Starlette(
        routes=ROUTES, middleware=_middleware(rules, network), exception_handlers=EXCEPTION_HANDLERS, lifespan=lifespan
    )
    app.router.redirect_slashes = False  # a redirected POST loses its body
    app.state.broker = broker
    app.state.bounds = bounds
    app.state.rules = rules
    app.state.keeper = keeper
    app.state.network = network
    app.state.access = AccessLog()
    return app


def _middleware(rules: Rules, network: Network) -> list[Middleware]:
    before = [
        Middleware(Forwarded, proxies=network.proxies),
        Middleware(Watched),
        Middleware(Upgrades),
        Middleware(Persistence),
        Middleware(SecurityHeaders, public_host=network.public_host),
        Middleware(Guard, rules=rules),
    ]
    if not rules.origins:
        return before
    cors = Middleware(
        CORSMiddleware, allow_origins=[*rules.origins], allow_methods=_METHODS, expose_headers=_EXPOSED,
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
    )  # fmt: skip
    return [*before, cors]
