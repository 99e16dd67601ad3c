"""GET /metrics: the broker's numbers, for Prometheus."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from ..broker import Broker
from .exposition import exposition
from .options import read_options


async def metrics(request: Request) -> Response:
    read_options(request, {})
    broker: Broker = request.app.state.broker
    return Response(exposition(broker, await broker.totals()), headers={"Content-Type": CONTENT_TYPE_LATEST})
