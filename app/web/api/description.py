"""GET /openapi.json: what there is to ask for. The file is made from openapi/openapi.yaml (tests/openapi31.py)."""

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from ..query import read_options


async def description(request: Request) -> Response:
    read_options(request, {})
    return Response(_description(), media_type="application/json")


@cache
def _description() -> bytes:
    return Path(__file__).with_name("openapi.json").read_bytes()
