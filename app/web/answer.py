"""Answers in JSON, with a line end, so that a terminal shows them on a line of their own; or a line for each record."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

LINES: Final = "application/x-ndjson"


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body) + b"\n", status, headers, "application/json")


def wants_lines(request: Request) -> bool:
    return LINES in request.headers.get("accept", "")


def lines_answer(records: Iterable[Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.Encoder().encode_lines(records), 200, headers, LINES)
