"""Heads that were read before: the same bytes lead to the same answer, and any others are read anew."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from app.web.fastpath.requests import FastPath
from app.web.middleware.origin import Rules
from app.web.publish_request import PublishLimits
from tests.harness import DEADLINE, OPEN, ServerProcess


class Wire:
    """One connection, on which requests are written as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, object]]:
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split("\r\n")[0])
            body = await self.reader.readexactly(length)
            return int(head.split()[1]), json.loads(body) if "json" in head else {}

    async def ask(self, request: bytes) -> tuple[int, dict[str, object]]:
        self.writer.write(request)
        return await self.answer()


def post(topic: str, body: bytes, *headers: str, query: str = "") -> bytes:
    lines = [f"POST /topics/{topic}/messages{query} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@asynccontextmanager
async def connected(server: ServerProcess, count: int) -> AsyncIterator[list[Wire]]:
    wires = [Wire(*await asyncio.open_connection(server.host, server.port)) for _ in range(count)]
    yield wires
    for wire in wires:
        wire.writer.close()
        with suppress(ConnectionError):
            await wire.writer.wait_closed()


@pytest.fixture
async def wire(server: ServerProcess) -> AsyncIterator[Wire]:
    async with connected(server, 1) as wires:
        yield wires[0]


async def bodies(wire: Wire, topic: str) -> list[str]:
    status, page = await wire.ask(f"GET /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status == 200
    messages = page["messages"]
    assert isinstance(messages, list)
    return [message["data"] for message in messages]


async def test_a_head_that_comes_again_is_the_same_publish(wire: Wire, topic: str) -> None:
    told = [await wire.ask(post(topic, b"m%d" % number)) for number in range(5)]
    assert [status for status, _ in told] == [201] * 5
    assert [answer["index"] for _, answer in told] == [0, 1, 2, 3, 4]
    assert await bodies(wire, topic) == ["m0", "m1", "m2", "m3", "m4"]


@pytest.mark.parametrize("cut", [1, 20, -3, -1])
async def test_a_head_that_comes_again_in_pieces_is_the_same_publish(
    server: ServerProcess, topic: str, cut: int
) -> None:
    request = post(topic, b"body")
    async with connected(server, 2) as (wire, other):
        assert (await wire.ask(request))[0] == 201
        wire.writer.write(request[:cut])
        assert await bodies(other, topic) == ["body"]  # so the server has read the first piece
        assert (await wire.ask(request[cut:]))[0] == 201
        assert (await wire.ask(request))[0] == 201
        assert await bodies(wire, topic) == ["body"] * 3


async def test_what_comes_behind_a_head_that_is_known_is_a_request_of_its_own(wire: Wire, topic: str) -> None:
    request = post(topic, b"one")
    assert (await wire.ask(request))[0] == 201
    wire.writer.write(request + request + post(topic, b"two", "Idempotency-Key: k") + request)
    assert [(await wire.answer())[0] for _ in range(4)] == [201] * 4
    assert await bodies(wire, topic) == ["one", "one", "one", "two", "one"]


@pytest.mark.parametrize(
    ("headers", "query"),
    [(["Content-Encoding: gzip"], ""), (["Content-Type: "], ""), ([], "?ttl=never"), (["Content-Length: 3"], "")],
)
async def test_a_head_that_differs_is_read_anew(wire: Wire, topic: str, headers: list[str], query: str) -> None:
    assert (await wire.ask(post(topic, b"fine")))[0] == 201
    status, _ = await wire.ask(post(topic, b"four", *headers, query=query))
    assert (status == 201) == (headers == ["Content-Type: "])  # an empty one is none


async def test_a_cached_head_of_a_stream_opens_a_stream_each_time(server: ServerProcess, topic: str) -> None:
    request = f"GET /topics/{topic}/stream?limit=1&since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with connected(server, 4) as (publisher, *readers), asyncio.timeout(DEADLINE):
        for wire in readers:
            wire.writer.write(request)
            head = await wire.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"text/event-stream" in head
        assert (await publisher.ask(post(topic, b"for all")))[0] == 201
        for wire in readers:
            assert b"data: for all" in await wire.reader.readuntil(b"for all")


async def test_bodies_of_any_length_have_the_same_head(wire: Wire, topic: str) -> None:
    sent = ["x" * length for length in (1, 9, 10, 99, 100, 3, 0, 2_000, 1)]
    for body in sent:
        assert (await wire.ask(post(topic, body.encode())))[0] == 201
    assert await bodies(wire, topic) == sent


@pytest.mark.parametrize("name", ["Content-Length", "content-length"])
def test_a_head_with_another_length_is_remembered(name: str) -> None:
    fast_path = FastPath(PublishLimits(1_000), Rules(), OPEN)
    head = f"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\n{name}: %d\r\n\r\n"
    found = fast_path.match(b"POST", b"/topics/a/messages", [(b"host", b"localhost"), (b"content-length", b"1")])
    assert found is not None
    fast_path.cache((head % 1).encode() + b"x", found)
    for length in (0, 7, 1_000):
        recalled = fast_path.lookup((head % length).encode() + b"x" * length)
        assert recalled is not None
        assert (recalled[0].route, recalled[0].length, recalled[1]) == (found.route, length, b"x" * length)
    assert fast_path.lookup((head % 1_001).encode() + b"x" * 1_001) is None  # it is too large
    assert fast_path.lookup((head % 2).encode() + b"x") is None  # it is not whole
    assert fast_path.lookup((head % 1).encode() + b"xx") is None  # something comes behind it


@pytest.mark.parametrize("length", ["+1", "-1", "1_0", "0x1", "", "1 1", "1\r\nContent-Length: 1"])
async def test_a_length_that_is_none_is_refused_behind_a_head_that_is_known(
    wire: Wire, topic: str, length: str
) -> None:
    for spelling in ("Content-Length", "content-length"):
        request = f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\n{spelling}: %s\r\n\r\nx"
        assert (await wire.ask((request % 1).encode()))[0] == 201
    assert (await wire.ask((request % length).encode()))[0] == 400
