"""When a stalled client is cut off, and when it is the server that was late."""

import asyncio
import time

from app.limits.stall import StallWatch
from app.telemetry.counters import Counters
from tests.harness import DEADLINE

SECONDS = 0.2


class Client:
    """The socket of a client that reads nothing."""

    def __init__(self) -> None:
        self.aborted = asyncio.Event()

    def pending(self) -> int:
        return 1_000

    def abort(self) -> None:
        self.aborted.set()


async def watched(client: Client) -> tuple[StallWatch, Counters]:
    """A watch whose first check comes late, since the loop was blocked until after it was due."""
    counters, loop = Counters(), asyncio.get_running_loop()
    watch = StallWatch(client, loop, SECONDS, counters)
    watch.start()
    time.sleep(2 * SECONDS)  # noqa: ASYNC251  # the loop is blocked
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return watch, counters


async def test_a_client_that_had_no_turn_since_the_loop_was_blocked_is_not_cut_off() -> None:
    client = Client()
    watch, counters = await watched(client)
    assert not client.aborted.is_set()
    watch.stop()
    assert counters.evicted == 0


async def test_a_client_that_reads_nothing_is_cut_off_after_the_loop_was_blocked_too() -> None:
    client = Client()
    _, counters = await watched(client)
    async with asyncio.timeout(DEADLINE):
        await client.aborted.wait()
    assert counters.evicted == 1
