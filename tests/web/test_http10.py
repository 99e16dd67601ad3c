"""HTTP/1.0: load balancers that ask for no Host, proxies that know no chunks, and `ab -k`."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess, http_client, start_server, start_uvicorn


async def answer(server: ServerProcess, request: bytes) -> tuple[list[str], bytes]:
    """The lines of the head, in small letters, and all that comes until the connection is closed."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.decode().lower().split("\r\n"), body


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/topics"])
async def test_a_request_of_http_1_0_needs_no_host(server: ServerProcess, path: str) -> None:
    head, _ = await answer(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert head[0] == "http/1.1 200 ok"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: evil.example\r\n", "421"),
        ("Host: \r\n", "400"),
        ("Host: localhost\r\nHost: localhost\r\n", "400"),
        ("Origin: https://evil.example\r\n", "403"),
        ("Origin: http://\r\n", "403"),
    ],
)
async def test_what_http_1_0_says_of_where_it_goes_and_comes_from_holds(
    server: ServerProcess, headers: str, status: str
) -> None:
    head, _ = await answer(server, f"GET /livez HTTP/1.0\r\n{headers}\r\n".encode())
    assert head[0].split()[1] == status


async def test_http_1_1_needs_a_host(server: ServerProcess) -> None:
    head, _ = await answer(server, b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert head[0] == "http/1.1 400 bad request"


@pytest.mark.parametrize(
    "headers", ["", "Connection: keep-alive\r\n", "Origin: http://localhost\r\nHost: localhost\r\n"]
)
@pytest.mark.parametrize("path", ["stream?since=earliest&limit=2", "groups/g/stream?credit=2&timeout=1s"])
async def test_a_stream_of_http_1_0_has_no_chunks_and_ends_with_its_connection(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, path: str, headers: str
) -> None:
    await http.put(f"/topics/{topic}/groups/g")
    for sent in ("first", "second"):
        await http.post(f"/topics/{topic}/messages", content=sent)
    head, body = await answer(server, f"GET /topics/{topic}/{path} HTTP/1.0\r\n{headers}\r\n".encode())
    assert head[0] == "http/1.1 200 ok"
    assert [line for line in head if line.startswith(("connection", "transfer-encoding", "content-length"))] == [
        "connection: close"
    ]
    assert body.startswith(b":")
    assert body.count(b"\ndata: ") == 2


async def test_a_stream_says_once_whether_its_connection_stays(server: ServerProcess, topic: str) -> None:
    request = f"GET /topics/{topic}/stream?timeout=1ms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for more in ("", "Origin: http://localhost\r\n"):
        head, _ = await answer(server, f"{request}{more}\r\n".encode())
        assert [line for line in head if line.startswith("connection")] == ["connection: close"]
        assert "transfer-encoding: chunked" in head


async def test_a_client_of_http_1_0_that_asks_for_it_keeps_its_connection(topic: str) -> None:
    post = f"POST /topics/{topic}/messages HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx".encode()
    get = b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    missing = b"GET /nothing HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    with start_server(tcp_port=0) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        async with asyncio.timeout(DEADLINE):
            for request, status in ((post, 201), (get, 200), (missing, 404), (post, 201)):
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
                assert int(head.split()[1]) == status
                assert head.count("connection: keep-alive\r\n") == head.count("connection: ") == 1
            writer.write(b"GET /livez HTTP/1.0\r\n\r\n")
            last = (await reader.read()).lower()
        writer.close()
    assert b"\nconnection: close\r\n" in last
    assert b"keep-alive" not in last


CLOSED = [
    "Connection: close, keep-alive", "Connection: keep-alive, close", "connection:KEEP-ALIVE ,\tCLOSE",
    "Connection: close\r\nConnection: keep-alive", "Connection: keep-alive\r\nX: y\r\nConnection: close",
    "Connection: keep-alive, x\r\nconnection: x,,close", "Connection: x, close", "Connection: close",
]  # fmt: skip


@pytest.fixture(scope="module")
def plain_asgi() -> Iterator[ServerProcess]:
    with start_uvicorn() as server:
        yield server


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("fields", CLOSED)
async def test_close_wins_wherever_it_stands(
    server: ServerProcess, plain_asgi: ServerProcess, topic: str, version: str, fields: str
) -> None:
    """RFC 9112, section 9.3. The request behind it is not carried out."""
    post = f"POST /topics/{topic}/messages HTTP/{version}\r\nHost: localhost\r\n{fields}\r\nContent-Length: 1\r\n\r\nx"
    get = f"GET /livez HTTP/{version}\r\nHost: localhost\r\n{fields}\r\n\r\n"
    for one in (server, plain_asgi):
        for request, status in ((post, "201"), (get, "200")):
            for behind in ("", post):
                head, body = await answer(one, (request + behind).encode())
                assert head[0].split()[1] == status
                assert [line for line in head if line.startswith("connection:")] == ["connection: close"]
                assert b"HTTP/1.1" not in body


@pytest.mark.parametrize(
    "fields",
    ["Proxy-Connection: keep-alive", "X-Connection: keep-alive", "Connection: x-keep-alive", "Keep-Alive: timeout=5"],
)
async def test_only_connection_asks_to_stay(server: ServerProcess, fields: str) -> None:
    """An old proxy passes Proxy-Connection on without knowing it, and waits for the end (RFC 9112, section C.2.2)."""
    head, _ = await answer(server, f"GET /livez HTTP/1.0\r\n{fields}\r\n\r\n".encode())
    assert "connection: close" in head


async def test_behind_chunks_of_http_1_0_nothing_is_read(topic: str) -> None:
    """Their framing is in doubt: RFC 9112, section 6.1."""
    head = f"POST /topics/{topic}/messages HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    hidden = f"POST /topics/{topic}.hidden/messages HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"
    with start_server(tcp_port=0) as server:
        lines, body = await answer(server, f"{head}1\r\nx\r\n0\r\n\r\n{hidden}".encode())
        assert "connection: close" in lines
        assert body.count(b"HTTP/1.1") == 0
        async with http_client(server.url) as http:
            assert (await http.get(f"/topics/{topic}.hidden")).status_code == 404


async def test_a_client_of_http_1_0_is_not_told_to_continue(topic: str) -> None:
    request = f"POST /topics/{topic}/messages HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"
    with start_server(tcp_port=0) as server:
        head, _ = await answer(server, request.encode())
    assert head[0] == "http/1.1 201 created"


@pytest.mark.parametrize("options", ["", "?retain=false", "?delay=1h"])
async def test_a_publish_of_http_1_0_without_a_length_stores_nothing(
    server: ServerProcess, plain_asgi: ServerProcess, topic: str, options: str
) -> None:
    """RFC 1945, section 7.2.2: nobody knows whether there is a body."""
    head = f"POST /topics/{topic}/messages{options} HTTP/1.0\r\n"
    for one in (server, plain_asgi):
        for fields, sent in (("", "hello"), ("", ""), ("Content-Type: a/b\r\n", "x")):
            lines, body = await answer(one, f"{head}{fields}\r\n{sent}".encode())
            assert (lines[0], "connection: close" in lines) == ("http/1.1 411 length required", True)
            assert json.loads(body)["code"] == "length_required"
        async with http_client(one.url) as http:
            assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_a_publish_of_http_1_0_with_the_length_0_stores_an_empty_message(
    server: ServerProcess, plain_asgi: ServerProcess, topic: str
) -> None:
    for one in (server, plain_asgi):
        request = f"POST /topics/{topic}/messages HTTP/1.0\r\nContent-Length: 0\r\n\r\n"
        head, _ = await answer(one, request.encode())
        assert head[0] == "http/1.1 201 created"


@pytest.mark.parametrize("path", ["messages", "purge", "groups/g/pull"])
async def test_a_body_without_a_length_is_no_request_of_http_1_0(topic: str, path: str) -> None:
    head = f"POST /topics/{topic}/{path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    hidden = f"POST /topics/{topic}.hidden/messages HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"
    with start_server(tcp_port=0) as server:
        lines, body = await answer(server, (head + hidden).encode())
        assert "connection: close" in lines
        assert "connection: keep-alive" not in lines
        assert body.count(b"HTTP/1.1") == 0
        async with http_client(server.url) as http:
            assert (await http.get(f"/topics/{topic}.hidden")).status_code == 404
