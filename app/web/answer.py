"""Answers in JSON, with a line end, so that a terminal shows them on a line of their own."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body) + b"\n", status, headers, "application/json")
