"""Readers that take nothing, in numbers."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.abuse.subscribers import faults, gather, many_files, numbers, publish, stalled
from tests.harness import DEADLINE, http_client, start_server


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with many_files():
        yield


async def test_a_thousand_stalled_readers_take_little_memory_and_harm_none_of_a_hundred_others() -> None:
    """6.4 MB for each; the stalled ones would have 6.4 GB."""
    with start_server("--stall-timeout", "2s", tcp_port=0) as server:
        async with http_client(server.url) as http, asyncio.timeout(6 * DEADLINE):
            healthy = await gather(server, 100)
            before, open_files = server.resident(), server.open_files()
            sockets = [stalled(server.port) for _ in range(1_000)]
            while await numbers(http, "plainmq_subscribers") < 1_100:
                pass
            most, last = 0, 0
            for _ in range(100):
                last = await publish(http, b"x" * (1 << 16))
                await asyncio.gather(*(reader.until(last) for reader in healthy))
                most = max(most, server.resident() - before)
            assert faults(healthy, 1, last) == {}
            while server.open_files() > open_files + 1:  # the publisher's own
                await http.get("/livez")
            assert await numbers(http, "plainmq_subscribers") == 100
            print(f"resident memory grew by {most / (1 << 20):.0f} MiB at most")
            assert most <= 128 << 20
            for sock in sockets:
                sock.close()
            for reader in healthy:
                reader.cut()
