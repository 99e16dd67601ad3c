"""Answers in JSON, with a line end, so that a terminal shows them on a line of their own; or a line for each record."""

from asyncio import sleep
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

T = TypeVar("T")

LINES: Final = "application/x-ndjson"
A_TURN: Final = 500  # records of a list: some milliseconds, then others get their turn


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body) + b"\n", status, headers, "application/json")


async def list_answer(name: str, items: Sequence[T], record: Callable[[T], Any]) -> Response:
    """An object with a list of records that may be long: others get their turn while it is written."""
    parts: list[bytes] = []
    for begin in range(0, len(items), A_TURN):
        parts.append(msgspec.json.encode([record(item) for item in items[begin : begin + A_TURN]])[1:-1])
        await sleep(0)
    body = b'{"%b":[%b]}\n' % (name.encode(), b",".join(parts))
    return Response(body, 200, media_type="application/json")


def wants_lines(request: Request) -> bool:
    return LINES in request.headers.get("accept", "")


def lines_answer(records: Iterable[Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.Encoder().encode_lines(records), 200, headers, LINES)
