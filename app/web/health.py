"""GET /livez: the process answers. GET /readyz: it takes messages and readers; not so while it is stopping, or
when its file is not the one that it opened, or it cannot know whom to let in."""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..broker import Broker
from ..errors import StorageFailed, TokensUnreadable
from .problem import problem


async def livez(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    if broker.draining:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "the server is stopping")
    if broker.unready:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, StorageFailed.code, broker.unready)
    if request.app.state.keeper.blind:
        detail = "the file of tokens cannot be read, so none of them is taken; the server's log says why"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, TokensUnreadable.code, detail)
    return PlainTextResponse("ok\n")
