"""A thousand subscribers that do not read."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.abuse.subscribers import (
    connect_subscribers,
    delivery_faults,
    metric,
    open_stalled,
    publish,
    raised_file_limit,
)
from tests.harness import DEADLINE, http_client, start_server


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with raised_file_limit():
        yield


async def test_a_thousand_stalled_subscribers_use_little_memory_and_affect_none_of_a_hundred_others() -> None:
    """6.4 MB are published to each, so unbounded buffers of the stalled ones would take 6.4 GB."""
    with start_server("--stall-timeout", "2s", tcp_port=0) as server:
        async with http_client(server.url) as http, asyncio.timeout(6 * DEADLINE):
            healthy = await connect_subscribers(server, 100)
            before, open_files = server.resident(), server.open_files()
            sockets = [open_stalled(server.port) for _ in range(1_000)]
            while await metric(http, "plainmq_subscribers") < 1_100:
                pass
            peak, last = 0, 0
            for _ in range(100):
                last = await publish(http, b"x" * (1 << 16))
                await asyncio.gather(*(subscriber.wait_for(last) for subscriber in healthy))
                peak = max(peak, server.resident() - before)
            assert delivery_faults(healthy, 1, last) == {}
            while server.open_files() > open_files + 1:  # the publisher's connection
                await http.get("/livez")
            assert await metric(http, "plainmq_subscribers") == 100
            print(f"resident memory grew by {peak / (1 << 20):.0f} MiB at most")
            assert peak <= 128 << 20
            for sock in sockets:
                sock.close()
            for subscriber in healthy:
                subscriber.abort()
