"""GET /livez: the process answers. GET /readyz: it takes messages and readers; not so while it is stopping."""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .problem import problem


async def livez(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    if request.app.state.broker.draining:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "the server is stopping")
    return PlainTextResponse("ok\n")
