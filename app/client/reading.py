"""How messages are read without a stream: in pages."""

from collections.abc import AsyncGenerator
from typing import Final

import httpx
import msgspec

from .answers import Gap, Line, Page
from .connection import Connection, decoded
from .errors import not_plainmq
from .publishing import BATCH
from .wire import Duration, Since, durations, place, topic_path

MOST: Final = 1_000  # messages: as many as a server puts in one page


async def page(connection: Connection, topic: str, since: Since, limit: int, wait: Duration | None) -> Page:
    query = {"since": place(since), "limit": limit, **durations(wait=wait)}
    path = topic_path(topic, "messages")
    return await connection.read(Page, "GET", path, params=query, long_poll=wait is not None)


async def body(connection: Connection, topic: str, id: str) -> bytes:
    return (await connection.insist("GET", topic_path(topic, "messages", id))).body


async def export(connection: Connection, topic: str, since: str) -> AsyncGenerator[list[Line | Gap], None]:
    """What a topic or pattern retains, a page at a time, and each gap at its place."""
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
    """A page, and the place where the next one starts."""
    query = {"since": since, "limit": MOST}
    answer = await connection.insist("GET", topic_path(topic, "messages"), params=query, headers={"Accept": BATCH})
    try:
        next_ = httpx.URL(answer.head.links["next"]["url"]).params["since"]
    except (KeyError, httpx.InvalidURL):
        raise not_plainmq(f"{connection.url} does not answer with a page of messages") from None
    return [_item(line) for line in answer.body.splitlines()], next_


class _Item(msgspec.Struct):
    """A line of a page: a message, or a gap."""

    id: str = ""
    gap: Gap | None = None


def _item(line: bytes) -> Line | Gap:
    item = decoded(line, _Item)
    return item.gap or Line(item.id, line)


def number(id: str) -> int:
    """`k3f9a2xq-42` → 42, its place in the log. Raises RequestRefused."""
    place = id.rpartition("-")[2]
    if not (place.isascii() and place.isdecimal() and len(place) < 20):
        raise not_plainmq(f"{id[:80]!a} is not an id of plainmq")
    return int(place)
