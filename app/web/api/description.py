"""GET /openapi.json and /openapi.yaml: the contract, for programs. openapi.json is made from openapi/openapi.yaml
(tests/openapi31.py).
"""

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from ..query import read_options


async def openapi_json(request: Request) -> Response:
    """In OpenAPI 3.1, which more tools read."""
    read_options(request, {})
    return Response(_document("openapi.json"), media_type="application/json")


async def openapi_yaml(request: Request) -> Response:
    """In OpenAPI 3.2, as it is written."""
    read_options(request, {})
    return Response(_document("openapi.yaml"), media_type="application/yaml")


@cache
def _document(name: str) -> bytes:
    """What is installed has both files here; in a checkout, openapi.yaml is in a folder of its own."""
    here = Path(__file__)
    places = here.with_name(name), here.parents[3] / "openapi" / name
    return next(place for place in places if place.exists()).read_bytes()
