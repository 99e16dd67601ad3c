"""Subscribing without losing the place."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Final

import msgspec

from .answers import Gap, Message
from .bodies import plain
from .connection import Connection, decoded
from .errors import ClientError, RequestRefused, Unreachable, not_plainmq
from .events import Event, EventReader, TooLong
from .waits import Waits

LIMIT: Final = 1_000_000  # the most messages that may be asked for in one stream


class Selection(msgspec.Struct, frozen=True):
    """What to subscribe to: topics and patterns, from `since`, or behind the id `after`; `limit` messages."""

    topics: tuple[str, ...]
    since: str
    after: str | None
    limit: int | None


async def subscription(
    connection: Connection, selection: Selection, patience: float | None
) -> AsyncGenerator[list[Message | Gap], None]:
    """The messages of all these topics in the order of the log, and each gap at its place: whatever has come at once.

    When the connection breaks or the server restarts it comes back to the place it had reached, for `patience` seconds
    without contact (None: for ever); a stream says its place as it begins. Raises RequestRefused, Unreachable.
    """
    waits = connection.waits(patience)
    place, left = selection.after, selection.limit
    while left is None or left > 0:
        try:
            async with aclosing(_stream(connection, selection, place, left, waits)) as stream:
                async for reached, items in stream:
                    place = reached
                    left = None if left is None else left - sum(isinstance(item, Message) for item in items)
                    if items:
                        yield items
                    if left == 0:
                        return
        except ClientError as error:
            connection.fail(waits, error)
        await waits.rest()


async def _stream(
    connection: Connection, selection: Selection, place: str | None, left: int | None, waits: Waits
) -> AsyncGenerator[tuple[str | None, list[Message | Gap]], None]:
    """One stream: what comes, each with the place it leads to. It ends with Unreachable or RequestRefused."""
    query: dict[str, Any] = {"topic": selection.topics, "format": "json"}
    query |= {} if left is None else {"limit": min(left, LIMIT)}
    query |= {} if place else {"since": selection.since}
    reader = EventReader()
    try:
        async with connection.stream("stream", query, {"Last-Event-ID": place} if place else {}) as answer:
            async for chunk in plain(answer):
                arrived = _arrived(reader.feed(chunk), waits)
                place = arrived.place or place
                yield place, arrived.items
                if arrived.farewell is not None:
                    said = f"{connection.url} takes no subscriber now ({arrived.farewell})"
                    raise RequestRefused(arrived.farewell, 503, said)
    except TooLong:
        raise not_plainmq(f"{connection.url} sends an event that is too long for one") from None
    raise Unreachable(f"{connection.url} ended the stream")


class _Arrived(msgspec.Struct):
    """What has come at once: the place it leads to, and why the server ends the stream, if it does."""

    items: list[Message | Gap] = []
    place: str = ""
    farewell: str | None = None


def _arrived(events: Iterable[Event], waits: Waits) -> _Arrived:
    arrived = _Arrived()
    for event in events:
        if event.retry is not None:
            waits.ask(event.retry)
        if event.event in {"busy", "bye"}:
            arrived.farewell = decoded(event.data, _Farewell).reason
            break
        if event.data and event.event != "place":
            kind: type[Gap | Message] = Gap if event.event == "gap" else Message
            arrived.items.append(decoded(event.data, kind))
        arrived.place = event.id
        waits.heard()
    return arrived


class _Farewell(msgspec.Struct):
    reason: str
