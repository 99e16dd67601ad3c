"""Messages for one subscriber (delivery=one) on several servers of one Redis."""

import asyncio
from contextlib import AsyncExitStack
from socket import SO_RCVBUF, SOL_SOCKET, socket

import pytest

from tests.cluster.test_redis_servers import on, two_servers
from tests.event_stream import Stream
from tests.event_stream import stream as open_stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.redis_server import RedisServer

COUNT = 40


async def publish_for_one(server: ServerProcess, *bodies: str) -> None:
    async with http_client(server.url) as http:
        for body in bodies:
            answer = await http.post("/topics/foo/messages", params={"delivery": "one"}, content=body)
            assert answer.is_success, answer.text


async def collect(streams: list[Stream], count: int) -> list[str]:
    """What all of them get, until there are so many; then it is looked whether more comes."""
    got: list[str] = []
    enough = asyncio.Event()

    async def read(stream: Stream) -> None:
        while True:
            got.extend(event.data for event in await stream.take(1))
            if len(got) >= count:
                enough.set()

    async with asyncio.timeout(DEADLINE):
        readers = [asyncio.ensure_future(read(stream)) for stream in streams]
        await enough.wait()
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
    return got


@pytest.mark.parametrize("also_here", [False, True])
async def test_each_message_reaches_one_subscriber_of_all_servers(redis: RedisServer, also_here: bool) -> None:
    bodies = [str(number) for number in range(COUNT)]
    with two_servers(redis) as (first, second):
        async with AsyncExitStack() as stack:
            servers = [second, second, *([first] if also_here else [])]
            streams = [await stack.enter_async_context(open_stream(one, "/topics/foo/stream")) for one in servers]
            await publish_for_one(first, *bodies, "last")
            assert sorted(await collect(streams, COUNT + 1)) == sorted([*bodies, "last"])


async def test_a_message_that_waits_reaches_the_first_subscriber_of_any_server(redis: RedisServer) -> None:
    with two_servers(redis) as (first, second):
        await publish_for_one(first, "x")
        async with open_stream(second, "/topics/foo/stream") as stream:
            assert [event.data for event in await stream.take(1)] == ["x"]
        async with open_stream(first, "/topics/foo/stream") as stream:
            await publish_for_one(second, "y")
            assert [event.data for event in await stream.take(1)] == ["y"], "and no other has the first one"


@pytest.mark.slow
async def test_what_a_killed_server_had_in_transit_reaches_a_subscriber_of_another(redis: RedisServer) -> None:
    """Fifteen seconds later, when its session is over."""
    with (
        start_server(*on(redis)) as first,
        start_server(*on(redis, "--send-buffer", "4096")) as second,
        socket() as stalled,
    ):
        stalled.setsockopt(SOL_SOCKET, SO_RCVBUF, 4_096)
        stalled.connect((second.host, second.port))
        stalled.sendall(b"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stalled.recv(1)
        large = "x" * 1_000_000
        await publish_for_one(second, large)
        second.process.kill()
        async with open_stream(first, "/topics/foo/stream") as stream:
            assert await stream.data(1) == [large]
