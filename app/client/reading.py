"""Reading retained messages, a page at a time."""

from collections.abc import AsyncGenerator, Iterator
from itertools import islice
from typing import Final

import httpx
import msgspec

from .answers.messages import Gap, Line, Page
from .connection import Connection, decoded
from .errors import not_plainmq
from .publishing import BATCH
from .wire import Duration, Since, durations, position, topic_path

MAX_PAGE: Final = 1_000  # messages, from the server
MAX_ITEMS: Final = MAX_PAGE + 1  # of a page: messages and a gap


async def page(connection: Connection, topic: str, since: Since, limit: int, wait: Duration | None) -> Page:
    query = {"since": position(since), "limit": limit, **durations(wait=wait)}
    path = topic_path(topic, "messages")
    return await connection.read(Page, "GET", path, params=query, long_poll=wait is not None)


async def body(connection: Connection, topic: str, id: str) -> bytes:
    return bytes((await connection.insist("GET", topic_path(topic, "messages", id))).body)


async def export(connection: Connection, topic: str, since: str) -> AsyncGenerator[list[Line | Gap], None]:
    """All that a topic or pattern retains now, a page at a time, with each gap where it is."""
    _, newest = await _lines(connection, "**", "latest")
    end = number(newest)
    while True:
        items, next_ = await _lines(connection, topic, since)
        if items := [item for item in items if isinstance(item, Gap) or number(item.id) <= end]:
            yield items
        if next_ == since or number(next_) >= end:
            return
        since = next_


async def _lines(connection: Connection, topic: str, since: str) -> tuple[list[Line | Gap], str]:
    """The items of a page, and the `since` of the next one."""
    query = {"since": since, "limit": MAX_PAGE}
    answer = await connection.insist("GET", topic_path(topic, "messages"), params=query, headers={"Accept": BATCH})
    try:
        next_ = httpx.URL(answer.head.links["next"]["url"]).params["since"]
    except (KeyError, httpx.InvalidURL):
        raise not_plainmq(f"{connection.url} does not answer with a page of messages") from None
    items = [_item(line) for line in islice(_split(answer.body), MAX_ITEMS + 1)]
    if len(items) > MAX_ITEMS:
        raise not_plainmq(f"{connection.url} answers with more messages than were asked for")
    return items, next_


def _split(body: bytearray) -> Iterator[bytes]:
    """The lines, one at a time: a list of all could take many times the memory of the body."""
    begin = 0
    while begin < len(body):
        end = body.find(b"\n", begin)
        end = len(body) if end < 0 else end
        yield bytes(memoryview(body)[begin:end])
        begin = end + 1


class _Item(msgspec.Struct):
    """A line of a page is a message or a gap."""

    id: str = ""
    gap: Gap | None = None


def _item(line: bytes) -> Line | Gap:
    item = decoded(line, _Item)
    return item.gap or Line(item.id, line)


def number(id: str) -> int:
    """`k3f9a2xq-42` → 42, the position in the log. Raises RequestRefused."""
    digits = id.rpartition("-")[2]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise not_plainmq(f"{id[:80]!a} is not an id of plainmq")
    return int(digits)
