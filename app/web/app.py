"""The HTTP endpoint: the table of routes, and the Starlette application."""

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ExceptionHandler, Lifespan

from ..access.authenticator import Authenticator
from ..broker.broker import Broker
from ..errors import PlainmqError
from ..telemetry.accesslog import AccessLog
from .api.console import get_asset, get_docs, get_root
from .api.consume import ack, extend, nack, pull, release, skip, stream_work
from .api.copy import copy_message
from .api.description import openapi_json, openapi_yaml
from .api.groups import delete_group, get_group, list_groups, pause_group, put_group, resume_group, seek_group
from .api.jobs import list_jobs
from .api.operations import livez, metrics, readyz
from .api.publish import publish
from .api.read import read_message, read_messages
from .api.redrive import redrive
from .api.scheduled import delete_scheduled, get_scheduled, list_scheduled, publish_scheduled
from .api.server import ServerInfo, get_server
from .api.session import delete_session, get_session, post_session, post_ticket
from .api.stats import get_stats, stream_stats
from .api.stream import stream_topic, stream_topics
from .api.subscribers import list_subscribers
from .api.tokens import delete_token, list_tokens, post_token
from .api.topics import delete_topic, get_topic, list_topics, pause_topic, purge_topic, put_topic, resume_topic
from .middleware.access_log import AccessLogMiddleware
from .middleware.forwarded import Forwarded, Proxies
from .middleware.origin import OriginCheck, Rules
from .middleware.security_headers import SecurityHeaders
from .permissions import (
    ADMINISTER,
    CHANGE,
    GROUP_STATE,
    INSPECT,
    JOBS,
    KNOWN,
    LIST,
    OPERATE,
    PUBLIC,
    PUBLISH,
    READ,
    READ_ONE,
    RELEASE,
    SCHEDULE,
    SCHEDULED,
    STATE,
    STREAM,
    STREAMS,
    WATCH,
    WORK,
    WORK_STREAM,
    ProtectedRoute,
)
from .problem import explain, fail, forget, refuse
from .publish_request import PublishLimits

# The last column is the required right; a body is refused unless the route reads it. Some paths match several routes;
# the first match wins, so the order counts; and each row costs time, so the most frequent come first.
ROUTES = [
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/pull", pull, WORK),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/ack", ack, WORK, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/messages", publish, PUBLISH, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/nack", nack, WORK, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/extend", extend, WORK, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/release", release, RELEASE, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/skip", skip, OPERATE, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/redrive", redrive, OPERATE, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/seek", seek_group, OPERATE, reads_body=True),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/pause", pause_group, OPERATE),
    ProtectedRoute("POST", "/topics/{topic:path}/groups/{group}/resume", resume_group, OPERATE),
    ProtectedRoute("GET", "/topics/{topic:path}/groups/{group}/stream", stream_work, WORK_STREAM),
    ProtectedRoute("GET", "/topics/{topic:path}/messages", read_messages, READ),
    ProtectedRoute("GET", "/topics/{topic:path}/messages/{id}", read_message, READ_ONE),
    ProtectedRoute("POST", "/topics/{topic:path}/messages/{id}/copy", copy_message, READ_ONE),
    ProtectedRoute("POST", "/topics/{topic:path}/purge", purge_topic, OPERATE),
    ProtectedRoute("POST", "/topics/{topic:path}/pause", pause_topic, OPERATE),
    ProtectedRoute("POST", "/topics/{topic:path}/resume", resume_topic, OPERATE),
    ProtectedRoute("GET", "/topics/{topic:path}/stream", stream_topic, STREAM),
    ProtectedRoute("GET", "/stream", stream_topics, STREAMS),
    ProtectedRoute("GET", "/topics/{topic:path}/groups/{group}", get_group, GROUP_STATE),
    ProtectedRoute("PUT", "/topics/{topic:path}/groups/{group}", put_group, CHANGE, reads_body=True),
    ProtectedRoute("DELETE", "/topics/{topic:path}/groups/{group}", delete_group, CHANGE),
    ProtectedRoute("GET", "/jobs", list_jobs, JOBS),
    ProtectedRoute("GET", "/topics", list_topics, LIST),
    ProtectedRoute("GET", "/groups", list_groups, LIST),
    ProtectedRoute("GET", "/subscribers", list_subscribers, LIST),
    ProtectedRoute("GET", "/scheduled", list_scheduled, LIST),
    ProtectedRoute("GET", "/scheduled/{id}", get_scheduled, SCHEDULED),
    ProtectedRoute("DELETE", "/scheduled/{id}", delete_scheduled, SCHEDULE),
    ProtectedRoute("POST", "/scheduled/{id}/publish", publish_scheduled, SCHEDULE),
    ProtectedRoute("GET", "/topics/{topic:path}", get_topic, STATE),
    ProtectedRoute("PUT", "/topics/{topic:path}", put_topic, CHANGE, reads_body=True),
    ProtectedRoute("DELETE", "/topics/{topic:path}", delete_topic, CHANGE),
    ProtectedRoute("GET", "/tokens", list_tokens, ADMINISTER),
    ProtectedRoute("POST", "/tokens", post_token, ADMINISTER, reads_body=True),
    ProtectedRoute("DELETE", "/tokens/{name:path}", delete_token, ADMINISTER),
    ProtectedRoute("POST", "/tickets", post_ticket, KNOWN),
    ProtectedRoute("GET", "/session", get_session, KNOWN),
    ProtectedRoute("POST", "/session", post_session, KNOWN),
    ProtectedRoute("DELETE", "/session", delete_session, PUBLIC),
    ProtectedRoute("GET", "/", get_root, PUBLIC),
    ProtectedRoute("GET", "/docs", get_docs, PUBLIC),
    ProtectedRoute("GET", "/console/{file:path}", get_asset, PUBLIC),
    ProtectedRoute("GET", "/openapi.json", openapi_json, PUBLIC),
    ProtectedRoute("GET", "/openapi.yaml", openapi_yaml, PUBLIC),
    ProtectedRoute("GET", "/server", get_server, INSPECT),
    ProtectedRoute("GET", "/stats", get_stats, INSPECT),
    ProtectedRoute("GET", "/stats/stream", stream_stats, WATCH),
    ProtectedRoute("GET", "/livez", livez, PUBLIC),
    ProtectedRoute("GET", "/readyz", readyz, PUBLIC),
    ProtectedRoute("GET", "/metrics", metrics, INSPECT),
]


EXCEPTION_HANDLERS: dict[Any, ExceptionHandler] = {
    PlainmqError: refuse,
    HTTPException: explain,
    ClientDisconnect: forget,
    Exception: fail,
}


_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
_EXPOSED = [
    "Location",
    "Link",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
]  # headers that a page of another origin may read


class Network(msgspec.Struct, frozen=True):
    """How clients reach the server: through these proxies; `public_host`: by https under this name, if any;
    `public_url`: under this address, if it is known. `line_port`: 0 if it is off. `console`: whether browsers get the
    console."""

    proxies: Proxies = Proxies()
    public_host: str = ""
    public_url: str = ""
    line_port: int = 0
    console: bool = True


def create_app(
    broker: Broker | None,
    authenticator: Authenticator | None,
    bounds: PublishLimits,
    rules: Rules,
    lifespan: Lifespan[Starlette] | None = None,
    *,
    network: Network = Network(),  # noqa: B008
    info: ServerInfo = ServerInfo(),  # noqa: B008
) -> Starlette:
    """The app over a broker. `info`: what GET /server shows. A lifespan may make the broker and the authenticator, and
    set them in `app.state`."""
    app = Starlette(
        routes=ROUTES, middleware=_middleware(rules, network), exception_handlers=EXCEPTION_HANDLERS, lifespan=lifespan
    )
    app.router.redirect_slashes = False  # a redirected POST loses its body
    app.state.broker = broker
    app.state.bounds = bounds
    app.state.rules = rules
    app.state.authenticator = authenticator
    app.state.network = network
    app.state.info = info
    app.state.access = AccessLog()
    return app


def _middleware(rules: Rules, network: Network) -> list[Middleware]:
    before = [
        Middleware(Forwarded, proxies=network.proxies),
        Middleware(AccessLogMiddleware),
        Middleware(SecurityHeaders, public_host=network.public_host),
        Middleware(OriginCheck, rules=rules),
    ]
    if not rules.origins:
        return before
    cors = Middleware(  # any header: a message has headers of any name, and tracers and polyfills add their own
        CORSMiddleware, allow_origins=[*rules.origins], allow_methods=_METHODS, allow_headers=["*"],
        expose_headers=_EXPOSED,
    )  # fmt: skip
    return [*before, cors]
