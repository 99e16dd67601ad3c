"""Many subscribers at once, and subscribers that do not read. Bounded in count; nothing here measures time."""

import asyncio
import re
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import cast

import httpx
import pytest

from tests.event_stream import SseEvent, Stream, stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server, take_nothing
from tests.line_client import lines

SUBSCRIBERS, MESSAGES = 1_000, 200
_BODY = re.compile(rb"(?:data: |'msg': ?')(m\d+-(?:http|line))")


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Listener(asyncio.Protocol):
    """Keeps what comes, and says when it has seen a text."""

    def __init__(self, request: bytes, greeting: bytes, last: bytes) -> None:
        self.request, self.greeting, self.last = request, greeting, last
        self.seen = bytearray()
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.seen += data
        for text, future in ((self.greeting, self.ready), (self.last, self.done)):
            if not future.done() and text in self.seen[-len(data) - len(text) :]:
                future.set_result(None)

    def bodies(self) -> list[bytes]:
        return _BODY.findall(self.seen)


async def test_a_thousand_subscribers_of_each_endpoint_get_every_message_of_both_once_in_one_order() -> None:
    loop = asyncio.get_running_loop()
    with start_server() as server:
        get = b"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sub = b"""{'command':'subscribe', 'topic':'foo'}\n{"command":"unsubscribe","topic":"none"}\n"""
        listeners = [
            (await loop.create_connection(lambda: Listener(*kind, b"m-end"), server.host, port))[1]  # noqa: B023
            for port, kind in ((server.port, (get, b"retry: ")), (server.tcp_port, (sub, b'{"success": true}')))
            for _ in range(SUBSCRIBERS)
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*(listener.ready for listener in listeners))
            await asyncio.gather(_publish_by_http(server), _publish_by_line(server))
            async with http_client(server.url) as client:
                answer = await client.post("/topics/foo/messages", content="m-end")
            assert answer.json()["subscribers"] == 2 * SUBSCRIBERS
            await asyncio.gather(*(listener.done for listener in listeners))
        expected = listeners[0].bodies()
        assert len(expected) == len(set(expected)) == 2 * MESSAGES
        for endpoint in (b"http", b"line"):
            assert [body for body in expected if body.endswith(endpoint)] == [
                b"m%d-%b" % (n, endpoint) for n in range(MESSAGES)
            ]
        assert all(listener.bodies() == expected for listener in listeners)
        for listener in listeners:
            listener.transport.close()


async def _publish_by_http(server: ServerProcess) -> None:
    async with http_client(server.url) as client:
        for n in range(MESSAGES):
            (await client.post("/topics/foo/messages", content=f"m{n}-http")).raise_for_status()


async def _publish_by_line(server: ServerProcess) -> None:
    async with lines(server) as literal:
        for n in range(MESSAGES):
            literal.send(f"{{'command':'send', 'topic':'foo', 'msg':'m{n}-line'}}")
            await literal.synchronise()


async def test_a_subscriber_that_stops_reading_delays_no_other_is_cut_off_and_leaves_memory_bounded() -> None:
    size, count, healthy = 1 << 16, 200, 20
    with start_server("--stall-timeout", "1s") as server:
        async with AsyncExitStack() as stack:
            subscribers = [
                await stack.enter_async_context(stream(server, "/topics/foo/stream")) for _ in range(healthy)
            ]
            stalled = [take_nothing(server.port, b"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")]
            stalled.append(take_nothing(server.tcp_port, b"{'command':'subscribe', 'topic':'foo'}\n"))
            client = await stack.enter_async_context(http_client(server.url))
            await client.put("/topics/foo")
            await _until(client, healthy + len(stalled))
            before = server.resident()

            async def read(subscriber: Stream) -> None:
                for n in range(count):
                    (body,) = await subscriber.data(1)
                    assert body == f"{n:06d}" + "x" * size

            async def publish() -> None:
                for n in range(count):
                    await client.post("/topics/foo/messages", content=f"{n:06d}" + "x" * size)

            await asyncio.gather(publish(), *map(read, subscribers))
            assert server.resident() - before < 64 << 20  # of 12 MB for each of 22 subscribers, and a history of 8 MiB
            await _until(client, healthy)
            for sock in stalled:
                sock.close()


async def _until(client: httpx.AsyncClient, subscribers: int) -> None:
    """Wait until the topic has so many subscribers."""
    async with asyncio.timeout(DEADLINE):
        while (await client.get("/topics/foo")).json()["subscribers"] != subscribers:
            pass


async def test_a_slow_subscriber_catches_up_from_the_log_without_a_gap() -> None:
    with start_server(tcp_port=0) as server:
        async with stream(server, "/topics/foo/stream") as slow, http_client(server.url) as client:
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for n in range(100):
                await client.post("/topics/foo/messages", content=f"{n:03d}" + "x" * (1 << 16))
            slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert [body[:3] for body in await slow.data(100)] == [f"{n:03d}" for n in range(100)]


async def test_a_slow_subscriber_whose_position_was_trimmed_gets_a_gap() -> None:
    with start_server("--max-messages", "10", tcp_port=0) as server:
        async with stream(server, "/topics/foo/stream") as slow, http_client(server.url) as client:
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for n in range(200):
                await client.post("/topics/foo/messages", content=f"{n:03d}" + "x" * (1 << 16))
            slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
            events: list[SseEvent] = []
            while not events or not events[-1].data.startswith("199"):
                events += await slow.take(1)
            kinds = [event.type for event in events]
            place = kinds.index("gap")
            seen = [int(event.data[:3]) for event in events if event.type == "message"]
            assert kinds.count("gap") == 1
            assert seen == [*range(place), *range(190, 200)]
