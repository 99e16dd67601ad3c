"""JSON responses. They end in a line end, for terminals; a list may also be sent as one line per record (NDJSON)."""

from asyncio import sleep
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..messages.record import one_line

T = TypeVar("T")

LINES: Final = "application/x-ndjson"
NEVER_STORED: Final = {"Cache-Control": "no-store"}  # headers of what changes at any moment, or is a secret
RECORDS_PER_TURN: Final = 200  # of a list: a few milliseconds of work, then other tasks run


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body) + b"\n", status, headers, "application/json")


async def list_answer(
    name: str, items: Sequence[T], record: Callable[[T], Any], following: str | int | None, total: int | None = None
) -> Response:
    """An object with one list, encoded in parts: other tasks run in between. `following`: the `after` of the next
    page. `total`: how many items all pages have together; None if that is not known."""
    parts: list[bytes] = []
    for begin in range(0, len(items), RECORDS_PER_TURN):
        parts.append(msgspec.json.encode([record(item) for item in items[begin : begin + RECORDS_PER_TURN]])[1:-1])
        await sleep(0)
    end = {"next": following} if total is None else {"next": following, "total": total}
    body = b'{"%b":[%b],%b\n' % (name.encode(), b",".join(parts), msgspec.json.encode(end)[1:])
    return Response(body, 200, NEVER_STORED, "application/json")


def wants_lines(request: Request) -> bool:
    return LINES in request.headers.get("accept", "")


def lines_answer(records: Iterable[Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(one_line(msgspec.json.Encoder().encode_lines(records)), 200, headers, LINES)
