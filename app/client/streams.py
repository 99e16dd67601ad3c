"""Subscriptions, which continue at their position after a reconnect."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Final

import msgspec

from .answers.messages import Gap, Message
from .bodies import plain
from .connection import Connection, decoded
from .errors import ClientError, RequestRefused, Unreachable, not_plainmq
from .events import Event, EventReader, TooLong
from .waits import Waits

END_EVENTS: Final = frozenset({"busy", "bye"})
MAX_LIMIT: Final = 1_000_000  # messages of one stream, from the server


class Selection(msgspec.Struct, frozen=True):
    """What to subscribe to: topics and patterns, from `since` or after the id `after`; at most `limit` messages."""

    topics: tuple[str, ...]
    since: str
    after: str | None
    limit: int | None


async def subscription(
    connection: Connection, selection: Selection, retry_for: float | None
) -> AsyncGenerator[list[Message | Gap], None]:
    """The messages of all these topics in the order of the log, with each gap where it is, in lists that arrived
    together.

    When the connection breaks or the server restarts, it reconnects and continues at its position; it gives up after
    `retry_for` seconds without contact (None: never). A stream begins with its position. Raises RequestRefused,
    Unreachable.
    """
    waits = connection.waits(retry_for)
    position, left = selection.after, selection.limit
    while left is None or left > 0:
        try:
            async with aclosing(_stream(connection, selection, position, left, waits)) as stream:
                async for reached, items in stream:
                    position = reached
                    left = None if left is None else left - sum(isinstance(item, Message) for item in items)
                    if items:
                        yield items
                    if left == 0:
                        return
        except ClientError as error:
            connection.fail(waits, error)
        await waits.pause()


async def _stream(
    connection: Connection, selection: Selection, position: str | None, left: int | None, waits: Waits
) -> AsyncGenerator[tuple[str | None, list[Message | Gap]], None]:
    """One stream: items with the position after them. It ends with Unreachable or RequestRefused."""
    query: dict[str, Any] = {"topic": selection.topics, "format": "json"}
    query |= {} if left is None else {"limit": min(left, MAX_LIMIT)}
    query |= {} if position else {"since": selection.since}
    reader = EventReader()
    try:
        async with connection.stream("stream", query, {"Last-Event-ID": position} if position else {}) as answer:
            async for chunk in plain(answer):
                arrived = _arrived(reader.feed(chunk), waits)
                position = arrived.position or position
                yield position, arrived.items
                if arrived.end_reason is not None:
                    sentence = f"{connection.url} accepts no subscriber now ({arrived.end_reason})"
                    raise RequestRefused(arrived.end_reason, 503, sentence)
    except TooLong:
        raise not_plainmq(f"{connection.url} sends an event that is too long") from None
    raise Unreachable(f"{connection.url} ended the stream")


class _Arrived(msgspec.Struct):
    """Items that arrived together, the position after them, and the server's reason if it ends the stream."""

    items: list[Message | Gap] = []
    position: str = ""
    end_reason: str | None = None


def _arrived(events: Iterable[Event], waits: Waits) -> _Arrived:
    arrived = _Arrived()
    for event in events:
        if event.retry is not None:
            waits.ask(event.retry)
        if event.event in END_EVENTS:
            arrived.end_reason = decoded(event.data, StreamEnd).reason
            break
        if event.data and event.event != "place":
            kind: type[Gap | Message] = Gap if event.event == "gap" else Message
            arrived.items.append(decoded(event.data, kind))
        arrived.position = event.id
        waits.heard()
    return arrived


class StreamEnd(msgspec.Struct):
    """The data of an event `busy` or `bye`."""

    reason: str
