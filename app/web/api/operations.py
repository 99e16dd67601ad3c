"""For operators: GET /metrics, /livez and /readyz."""

from http import HTTPStatus

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ...broker.broker import Broker
from ...errors import StorageFailed, TokensUnreadable
from ..problem import problem
from ..query import read_options
from .prometheus import Family, families_of, prometheus_text


async def metrics(request: Request) -> Response:
    read_options(request, {})
    broker: Broker = request.app.state.broker
    own = msgspec.msgpack.encode(families_of(broker, await broker.totals()))
    families = msgspec.msgpack.decode(await broker.siblings.merged("metrics", own), type=list[Family])
    return Response(prometheus_text(families), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def livez(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    if broker.log.failed:
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE, StorageFailed.code, f"this process cannot go on: {broker.log.failed}"
        )
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    if broker.admission.draining:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "the server is stopping")
    if broker.log.unready:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, StorageFailed.code, broker.log.unready)
    if request.app.state.authenticator.tokens_unreadable:
        detail = "the file of tokens cannot be read, so none of them is taken; the server's log says why"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, TokensUnreadable.code, detail)
    return PlainTextResponse("ok\n")
