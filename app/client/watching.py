"""The statistics of a server, as they arrive once a second."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from .answers.messages import Gap
from .answers.server import Sample
from .bodies import plain
from .connection import Connection, decoded
from .errors import ClientError, Unavailable, Unreachable, not_plainmq
from .events import Event, EventReader, TooLong
from .streams import END_EVENTS, StreamEnd
from .waits import Waits

MAX_SAMPLE: Final = 1 << 16  # bytes of an event: a sample has less than 1 KiB


async def samples(connection: Connection, retry_for: float | None) -> AsyncGenerator[list[Sample | Gap], None]:
    """Samples in lists that arrived together. When the connection breaks, it reconnects; it gives up after `retry_for`
    seconds without contact (None: never). Raises RequestRefused, Unreachable."""
    waits = connection.waits(retry_for)
    while True:
        try:
            async with aclosing(_stream(connection, waits)) as stream:
                async for arrived in stream:
                    yield arrived
        except ClientError as error:
            connection.fail(waits, error)
        await waits.pause()


async def _stream(connection: Connection, waits: Waits) -> AsyncGenerator[list[Sample | Gap], None]:
    """One stream. It ends with Unreachable or RequestRefused."""
    reader = EventReader(MAX_SAMPLE)
    try:
        async with connection.stream("stats/stream", {}, {}) as answer:
            async for chunk in plain(answer):
                arrived: list[Sample | Gap] = []
                arrived += [sample for event in reader.feed(chunk) if (sample := _sample(event, waits))]
                if arrived:
                    yield arrived
    except TooLong:
        raise not_plainmq(f"{connection.url} sends an event that is too long") from None
    raise Unreachable(f"{connection.url} ended the stream")


def _sample(event: Event, waits: Waits) -> Sample | None:
    """Raises Unavailable at the last event of a stream that the server ends."""
    if event.retry is not None:
        waits.ask(event.retry)
    if event.event in END_EVENTS:
        reason = decoded(event.data, StreamEnd).reason
        raise Unavailable(reason, 503, f"the server accepts no subscriber now ({reason})")
    waits.heard()
    return decoded(event.data, Sample) if event.data else None
