"""Request lines that are unusual: a target in absolute form (RFC 9112, section 3.2.2), and other versions of HTTP."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess, http_client, start_server


@pytest.fixture(scope="module")
def own() -> Iterator[ServerProcess]:
    """plainmq's own protocol: uvicorn's hides the host of a target from the app."""
    with start_server(tcp_port=0) as server:
        yield server


async def told(server: ServerProcess, request: bytes) -> bytes:
    """All that comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    writer.close()
    return answer


ABSOLUTE = [
    ("http://localhost/livez", b"Host: evil.example\r\n", b"200"),  # RFC 9112, section 3.2.2: Host is ignored
    ("HTTP://LOCALHOST:1/livez", b"Host: localhost\r\n", b"200"),
    ("https://[::1]:8000/livez?", b"Host: localhost\r\n", b"200"),
    ("http://evil.example/livez", b"Host: localhost\r\n", b"421"),
    ("http://localhost.evil.example/livez", b"Host: localhost\r\n", b"421"),
    ("http://user@localhost/livez", b"Host: localhost\r\n", b"400"),  # RFC 9110, section 4.2.4
    ("http://localhost/livez", b"", b"400"),  # section 3.2: each request of HTTP/1.1 has one lawful Host all the same
    ("http://localhost/livez", b"Host: localhost\r\nHost: localhost\r\n", b"400"),
    ("http://localhost/livez", b"Host: a b\r\n", b"400"),
    ("http://localhost", b"Host: localhost\r\n", b"200"),  # without a path it is `/` (section 3.2.1)
    ("http://localhost?", b"Host: localhost\r\n", b"200"),
    ("ftp://localhost/livez", b"Host: localhost\r\n", b"400"),
]


@pytest.mark.parametrize(("target", "hosts", "status"), ABSOLUTE)
async def test_the_host_of_an_absolute_target_replaces_host(
    own: ServerProcess, target: str, hosts: bytes, status: bytes
) -> None:
    answer = await told(own, b"GET %b HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (target.encode(), hosts))
    assert answer.split()[1] == status, answer


async def test_the_query_of_an_absolute_target_without_a_path_is_read(own: ServerProcess) -> None:
    answer = await told(own, b"GET http://localhost?x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b"'x' is not an option here" in answer


@pytest.mark.parametrize(("name", "status"), [("localhost", b"200"), ("evil.example", b"421")])
async def test_the_host_of_an_absolute_target_counts_in_http_1_0_too(
    own: ServerProcess, name: str, status: bytes
) -> None:
    assert (await told(own, f"GET http://{name}/livez HTTP/1.0\r\n\r\n".encode())).split()[1] == status


async def test_an_origin_is_compared_with_the_host_of_an_absolute_target(own: ServerProcess) -> None:
    answer = await told(
        own,
        b"GET http://localhost:1/livez HTTP/1.1\r\nHost: localhost:2\r\nOrigin: http://localhost:2\r\n"
        b"Connection: close\r\n\r\n",
    )
    assert answer.split()[1] == b"403"


async def test_nothing_is_stored_for_an_absolute_target_of_another_server(own: ServerProcess, topic: str) -> None:
    head = b"POST http://evil.example/topics/%b/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    await told(own, head % topic.encode() + b"Content-Length: 1\r\n\r\nx")
    async with http_client(own.url) as http:
        assert (await http.get(f"/topics/{topic}")).status_code == 404


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9"])
@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n"])
async def test_another_version_of_http_in_plain_text_is_refused(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, version: str, connection: str
) -> None:
    head = f"POST /topics/{topic}/messages {version}\r\nHost: localhost\r\n{connection}Content-Length: 1\r\n\r\nx"
    answer = await told(server, head.encode())
    assert answer.split()[1] == b"505"
    assert b'"code":"version_unsupported"' in answer
    assert (await http.get(f"/topics/{topic}")).status_code == 404


@pytest.mark.parametrize("version", ["HTTP/3.0", "HTTP/9.9", "HTTP/1.2"])
async def test_a_version_that_the_parser_does_not_know_is_refused_likewise(own: ServerProcess, version: str) -> None:
    answer = await told(own, f"GET /livez {version}\r\nHost: localhost\r\n\r\n".encode())
    assert answer.split()[1] == b"505"
    assert b'"code":"version_unsupported"' in answer
