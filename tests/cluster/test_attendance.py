"""Servers on one Redis: what a client of one is told of the subscribers and workers at the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.cluster.test_redis_servers import two_servers
from tests.event_stream import stream as open_stream
from tests.harness import DEADLINE, http_client
from tests.redis_server import RedisServer

STEP = 0.05  # seconds between two questions


async def until(expected: Any, ask: Callable[[], Awaitable[Any]]) -> None:
    """The other server says who listens there once a second."""
    async with asyncio.timeout(DEADLINE):
        while await ask() != expected:  # noqa: ASYNC110  # of another process
            await asyncio.sleep(STEP)


async def test_receipts_and_lists_count_the_subscribers_and_workers_of_all_servers(redis: RedisServer) -> None:
    with two_servers(redis) as (first, second):
        async with http_client(first.url) as http:

            async def receipt() -> Any:
                return (await http.post("/topics/foo/messages", content="x")).json()["subscribers"]

            async def listed(path: str, name: str) -> Any:
                return (await http.get(path)).json()[name]

            assert await receipt() == 0
            await http.put("/topics/foo/groups/g")
            async with (
                open_stream(second, "/topics/foo/stream"),
                open_stream(second, "/topics/**/stream"),
                open_stream(first, "/topics/foo/stream"),
                open_stream(second, "/topics/foo/groups/g/stream"),
            ):
                await until(3, receipt)
                assert await listed("/topics/foo", "subscribers") == 3
                await until(1, lambda: listed("/topics/foo/groups/g", "workers"))
            await until(0, receipt)
            await until(0, lambda: listed("/topics/foo/groups/g", "workers"))
