"""What is left of a connection when its answer is a stream."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from tests.fuzz.wire import Endpoints, Transport
from tests.harness import OPEN

TURNS = 50  # of the loop, in which a request that goes through ASGI has become a stream


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    endpoints = Endpoints(OPEN)
    gc.disable()
    yield endpoints
    gc.enable()
    endpoints.close()


@pytest.mark.parametrize("header", ["Accept: text/event-stream", "X-Not-Plain: 1"])
@pytest.mark.parametrize(
    "before", [b"", b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"]
)
def test_nothing_of_http_is_kept_for_a_subscriber(endpoints: Endpoints, header: str, before: bytes) -> None:
    request = f"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode()

    async def ask() -> tuple[Transport, "weakref.ref[asyncio.Protocol]"]:
        connection = endpoints.http()
        transport = Transport(connection, endpoints.loop)
        connection.connection_made(transport)
        for data in filter(None, [before, request]):
            connection.data_received(data)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        return transport, weakref.ref(connection)

    for _ in range(2):  # the second time its head is known
        transport, connection = endpoints.loop.run_until_complete(ask())
        assert b"\nretry: " in transport.written
        assert connection() is None  # nor waits for the garbage collector
        transport.close()
        endpoints.loop.run_until_complete(asyncio.sleep(0))
