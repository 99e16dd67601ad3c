"""Who a browser may speak for: names that are not ours (DNS rebinding), and pages from elsewhere (CSRF)."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess, start_server, stream

pytestmark = pytest.mark.anyio

OURS = ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:8000", "10.1.2.3", "localhost."]
FOREIGN = ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "notlocalhost"]
BROKEN = ["", "a b", "evil.example/x", "local\xe4host", "@localhost", "localhost:port", "[::1"]
PATHS = [("POST", "/messages"), ("GET", "/messages"), ("GET", "/stream?timeout=1ms"), ("PUT", ""), ("DELETE", "")]


async def ask(http: httpx.AsyncClient, method: str, path: str, **headers: str) -> httpx.Response:
    return await http.request(method, path, headers=headers, content=b"x" if method == "POST" else None)


@pytest.mark.parametrize("host", OURS)
async def test_addresses_and_localhost_are_ours(http: httpx.AsyncClient, topic: str, host: str) -> None:
    assert (await ask(http, "POST", f"/topics/{topic}/messages", Host=host)).status_code == 201


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_name_that_is_not_ours_is_refused(
    http: httpx.AsyncClient, topic: str, host: str, method: str, path: str
) -> None:
    await ask(http, "POST", f"/topics/{topic}/messages")
    answer = await ask(http, method, f"/topics/{topic}{path}", Host=host)
    assert (answer.status_code, answer.json()["code"]) == (421, "host_unknown")
    assert (await http.get(f"/topics/{topic}")).json()["messages"] == 1


@pytest.mark.parametrize("host", BROKEN)
async def test_what_is_no_name_is_refused(http: httpx.AsyncClient, topic: str, host: str) -> None:
    answer = await http.post(f"/topics/{topic}/messages", headers=[(b"Host", host.encode("latin-1"))], content=b"x")
    assert answer.status_code == 400
    assert (await http.get(f"/topics/{topic}")).status_code == 404


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
async def test_a_request_has_one_host(server: ServerProcess, http: httpx.AsyncClient, topic: str, hosts: bytes) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"POST /topics/%b/messages HTTP/1.1\r\n%bContent-Length: 1\r\n\r\nx" % (topic.encode(), hosts))
    async with asyncio.timeout(DEADLINE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await http.get(f"/topics/{topic}")).status_code == 404


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:1",
        "http://localhost.evil.example",
        "file://",
        "http://[",
        "//[",
    ],
)
@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_page_from_elsewhere_is_refused(
    http: httpx.AsyncClient, topic: str, origin: str, method: str, path: str
) -> None:
    await ask(http, "POST", f"/topics/{topic}/messages")
    answer = await ask(http, method, f"/topics/{topic}{path}", Origin=origin)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_forbidden")
    assert "access-control-allow-origin" not in answer.headers
    assert (await http.get(f"/topics/{topic}")).json()["messages"] == 1


async def test_a_page_of_our_own_may_publish(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    origin = f"http://{server.host}:{server.port}"
    assert (await ask(http, "POST", f"/topics/{topic}/messages", Origin=origin)).status_code == 201


@pytest.fixture(scope="module")
def trusting() -> Iterator[ServerProcess]:
    flags = ["--public-url", "https://mq.example.org", "--allowed-hosts", "plainmq, Other.Example", "--auth", "none"]
    with start_server(*flags, "--allowed-origins", "https://app.example.org") as process:
        yield process


@pytest.mark.parametrize("host", ["mq.example.org", "plainmq:8000", "other.example"])
async def test_a_name_that_was_given_is_ours(trusting: ServerProcess, topic: str, host: str) -> None:
    async with httpx.AsyncClient(base_url=trusting.url) as http:
        assert (await ask(http, "POST", f"/topics/{topic}/messages", Host=host)).status_code == 201


async def test_a_site_that_was_named_may_publish_and_subscribe(trusting: ServerProcess, topic: str) -> None:
    origin = "https://app.example.org"
    async with httpx.AsyncClient(base_url=trusting.url) as http:
        published = await ask(http, "POST", f"/topics/{topic}/messages", Origin=origin)
        assert (published.status_code, published.headers["access-control-allow-origin"]) == (201, origin)
        preflight = await http.options(
            f"/topics/{topic}/messages",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "idempotency-key",
            },
        )
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
    async with stream(trusting, f"/topics/{topic}/stream?since=earliest", Origin=origin) as events:
        assert events.headers["access-control-allow-origin"] == origin
        assert await events.data(1) == ["x"]
