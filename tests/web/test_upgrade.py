"""Offers of another protocol: they are ignored with the body intact, or refused where the parser loses it."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.harness import DEADLINE, ServerProcess, http_client, start_server, start_uvicorn, start_uvicorn_with

OFFERS = [
    ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"],
    ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
    ["UPGRADE: foo/2, h2c", "connection:keep-alive,UPGRADE"],
]


@pytest.fixture(scope="module")
def own() -> Iterator[ServerProcess]:
    with start_server(tcp_port=0) as process:
        yield process


@pytest.fixture(scope="module")
def asgi() -> Iterator[ServerProcess]:
    with start_uvicorn() as process:
        yield process


@pytest.fixture(scope="module")
def h11() -> Iterator[ServerProcess]:
    with start_uvicorn_with(UVICORN_HTTP="h11") as process:
        yield process


def offering(topic: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST /topics/{topic}/messages HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def status(self) -> int:
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            await self.reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
            return int(head.split()[1])


@asynccontextmanager
async def wire(server: ServerProcess) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    yield Wire(reader, writer)
    writer.close()


async def kept(server: ServerProcess, topic: str) -> list[str]:
    async with http_client(server.url) as http:
        answer = await http.get(f"/topics/{topic}/messages?limit=1000")
        return [message["data"] for message in answer.json()["messages"]] if answer.status_code == 200 else []


@pytest.mark.parametrize("headers", OFFERS, ids=["h2c", "websocket", "odd"])
async def test_an_offer_is_ignored_and_the_body_kept_however_it_is_cut(
    own: ServerProcess, topic: str, headers: list[str]
) -> None:
    plain, offer = offering(topic, b"plain"), offering(topic, b"hello", *headers)
    async with http_client(own.url) as http, wire(own) as client:
        cuts = range(1, len(offer))
        for cut in cuts:
            client.writer.write(offer[:cut])
            await http.get("/livez")  # so the server has read it
            client.writer.write(offer[cut:] + offer + plain)
            assert [await client.status() for _ in range(3)] == [201] * 3
    assert await kept(own, topic) == ["hello", "hello", "plain"] * len(cuts)


async def test_a_body_in_chunks_behind_an_offer_is_kept(own: ServerProcess, topic: str) -> None:
    head = f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    offer = f"{head}Connection: upgrade, close\r\nUpgrade: h2c\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n".encode()
    async with wire(own) as client:
        client.writer.write(offer + offer)
        assert await client.status() == 201
        assert await client.reader.read() == b""  # it was asked to close
    assert await kept(own, topic) == ["hello"]


async def test_a_stream_behind_an_offer_is_a_stream(own: ServerProcess, topic: str) -> None:
    async with wire(own) as client, asyncio.timeout(DEADLINE):
        head = f"GET /topics/{topic}/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        client.writer.write(head.encode())
        assert b"text/event-stream" in await client.reader.readuntil(b"retry: ")
        async with http_client(own.url) as http:
            await http.post(f"/topics/{topic}/messages", content="news")
        await client.reader.readuntil(b"data: news")


async def test_a_tunnel_is_refused(own: ServerProcess) -> None:
    async with wire(own) as client, asyncio.timeout(DEADLINE):
        client.writer.write(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\nPOST / HTTP/1.1\r\n")
        answer = await client.reader.read()
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "upgrade_unsupported"


HIDDEN = "DELETE /topics/{} HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("headers", OFFERS[::2], ids=["h2c", "odd"])
@pytest.mark.parametrize("apart", [False, True], ids=["whole", "body apart"])
async def test_where_the_parser_loses_the_body_nothing_is_stored_and_nothing_of_it_done(
    asgi: ServerProcess, topic: str, headers: list[str], apart: bool
) -> None:
    async with http_client(asgi.url) as http:
        await http.post(f"/topics/{topic}.victim/messages", content="stays")
        request = offering(topic, HIDDEN.format(f"{topic}.victim").encode(), *headers)
        end = request.index(b"\r\n\r\n") + 4
        async with wire(asgi) as client, asyncio.timeout(DEADLINE):
            client.writer.write(request[:end] if apart else request)
            answer = await client.reader.readuntil(b"upgrade_unsupported")
            with suppress(ConnectionResetError):  # the connection is closed, perhaps before the body comes
                client.writer.write(request[end:] if apart else b"")
                await http.get("/livez")
                answer += await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 501 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert await kept(asgi, topic) == []
        assert await kept(asgi, f"{topic}.victim") == ["stays"]


@pytest.mark.parametrize("headers", OFFERS[::2], ids=["h2c", "odd"])
async def test_where_there_is_no_body_an_offer_is_ignored_and_the_connection_closed(
    asgi: ServerProcess, headers: list[str]
) -> None:
    async with wire(asgi) as client, asyncio.timeout(DEADLINE):
        client.writer.write("\r\n".join(["GET /livez HTTP/1.1", "Host: localhost", *headers, "", ""]).encode())
        answer = await client.reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\nconnection: close\r\n" in answer


async def test_where_the_parser_keeps_the_body_it_is_published(h11: ServerProcess, topic: str) -> None:
    async with wire(h11) as client:
        client.writer.write(offering(topic, b"hello", *OFFERS[0]))
        assert await client.status() == 201
    assert await kept(h11, topic) == ["hello"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_that_offers_http_2_publishes_what_it_was_given(own: ServerProcess, topic: str) -> None:
    command = ["curl", "-sS", "--http2", "-d", "hello", f"{own.url}/topics/{topic}/messages"]
    done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    assert json.loads(done.stdout)["topic"] == topic
    assert await kept(own, topic) == ["hello"]
