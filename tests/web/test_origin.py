"""Who a browser may speak for: names that are not ours (DNS rebinding), and pages from elsewhere (CSRF)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server

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
    async with http_client(trusting.url) as http:
        assert (await ask(http, "POST", f"/topics/{topic}/messages", Host=host)).status_code == 201


async def test_a_site_that_was_named_may_publish_and_subscribe(trusting: ServerProcess, topic: str) -> None:
    origin = "https://app.example.org"
    async with http_client(trusting.url) as http:
        published = await ask(http, "POST", f"/topics/{topic}/messages", Origin=origin)
        assert (published.status_code, published.headers["access-control-allow-origin"]) == (201, origin)
        preflight = await http.options(
            f"/topics/{topic}/messages",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "idempotency-key,x-plainmq-title,ce-id,traceparent",
            },
        )
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
        polyfill = await http.options(  # what eventsource-polyfill sends with every request
            f"/topics/{topic}/stream",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "cache-control,last-event-id,x-requested-with",
            },
        )
        assert (polyfill.status_code, polyfill.headers["access-control-allow-origin"]) == (200, origin)
    async with stream(trusting, f"/topics/{topic}/stream?since=earliest", Origin=origin) as events:
        assert events.headers["access-control-allow-origin"] == origin
        assert await events.data(1) == ["x"]


ELSEWHERE = ["cross-site", "same-site"]


@pytest.mark.parametrize("site", ELSEWHERE)
@pytest.mark.parametrize(("method", "path"), [*PATHS, ("GET", "/groups/g/stream?timeout=1ms")])
async def test_a_page_from_elsewhere_is_refused_also_where_its_browser_does_not_name_it(
    http: httpx.AsyncClient, topic: str, site: str, method: str, path: str
) -> None:
    """As for an image, whose address may be that of a stream, and take a message from whom it is for."""
    await ask(http, "POST", f"/topics/{topic}/messages?delivery=one")
    assert (await ask(http, "GET", f"/topics/{topic}/messages")).status_code == 200  # such a head was seen before
    answer = await ask(http, method, f"/topics/{topic}{path}", **{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_forbidden")
    state = (await http.get(f"/topics/{topic}")).json()
    assert (state["messages"], state["groups"]) == (1, [])


@pytest.mark.parametrize("site", ELSEWHERE)
async def test_a_person_may_follow_a_link_but_not_into_a_stream(http: httpx.AsyncClient, topic: str, site: str) -> None:
    await ask(http, "POST", f"/topics/{topic}/messages")
    followed = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert (await ask(http, "GET", f"/topics/{topic}/messages", **followed)).status_code == 200
    assert (await ask(http, "GET", f"/topics/{topic}/stream?timeout=1ms", **followed)).status_code == 403


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_a_page_of_our_own_and_a_person_may_open_a_stream(http: httpx.AsyncClient, topic: str, site: str) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert (await ask(http, "GET", f"/topics/{topic}/stream?timeout=1ms", **headers)).status_code == 200


async def test_where_every_site_is_trusted_none_is_asked_for_its_name(topic: str) -> None:
    with start_server("--allowed-origins", "*", tcp_port=0) as process:
        async with http_client(process.url) as http:
            path = f"/topics/{topic}/stream?timeout=1ms"
            assert (await ask(http, "GET", path, **{"Sec-Fetch-Site": "cross-site"})).status_code == 200


FORWARDED = {
    "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "mq.example.org",
    "X-Real-IP": "203.0.113.7", "Forwarded": "for=203.0.113.7", "Via": "1.1 proxy", "CF-Connecting-IP": "203.0.113.7",
    "True-Client-IP": "203.0.113.7", "X-Client-IP": "203.0.113.7", "Client-IP": "203.0.113.7",
    "Fly-Client-IP": "203.0.113.7", "X-Envoy-External-Address": "203.0.113.7",
    "X-Original-Forwarded-For": "203.0.113.7", "X-ProxyUser-Ip": "203.0.113.7", "Forwarded-For": "203.0.113.7",
}  # fmt: skip


@pytest.mark.parametrize("sign", FORWARDED)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/messages"), ("POST", "/messages?event=x"), ("GET", "/stream"), ("GET", "")]
)
async def test_a_server_without_authentication_refuses_clients_through_a_proxy(
    http: httpx.AsyncClient, topic: str, sign: str, method: str, path: str
) -> None:
    """It takes who reaches it for people of its own machine; behind a proxy that is the whole world."""
    url = f"/topics/{topic}{path}"
    if method == "POST":
        assert (await http.post(url, content="x")).status_code == 201  # such a head was seen before
    for _ in range(2):
        answer = await http.request(method, url, headers={sign: FORWARDED[sign]})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")
        for word in (sign.lower(), "--trusted-proxies", "--auth none"):
            assert word in answer.json()["detail"]
    assert (await http.get("/livez", headers={sign: FORWARDED[sign]})).status_code == 200
    kept = (await http.get(f"/topics/{topic}/messages?wait=1ms")).json()["messages"]
    assert len(kept) == (method == "POST")


async def test_it_says_once_that_a_proxy_is_there(topic: str) -> None:
    with start_server(tcp_port=0) as process:
        async with http_client(process.url, headers={"X-Forwarded-For": "203.0.113.7"}) as http:
            for _ in range(3):
                assert (await http.post(f"/topics/{topic}/messages", content="x")).status_code == 401
        process.stop()
        warnings = [line for line in process.complaints() if " warning " in line]
        assert len(warnings) == 1
        assert "proxy" in warnings[0]


@pytest.mark.parametrize("flags", [["--auth", "none"], ["--auth", "none", "--trusted-proxies", "127.0.0.1"]])
async def test_an_allowed_origin_of_any_admits_every_page(flags: list[str], topic: str) -> None:
    with start_server(*flags, tcp_port=0) as process:
        async with http_client(process.url, headers=FORWARDED) as http:
            for _ in range(2):
                assert (await http.post(f"/topics/{topic}/messages", content="x")).status_code == 201


async def test_a_refusal_for_a_name_says_that_a_proxy_may_have_changed_it(http: httpx.AsyncClient, topic: str) -> None:
    for headers in ({"Host": "backend"}, {"Host": "localhost", "Origin": "https://mq.example.org"}):
        answer = await http.get(f"/topics/{topic}/stream", headers=headers)
        assert answer.status_code in {421, 403}
        assert "proxy" in answer.json()["detail"]
        assert "proxy_set_header Host" in answer.json()["detail"]


@pytest.mark.parametrize("origins", ["https://trusted.example", "*"])
async def test_a_page_that_may_use_the_server_can_read_why_it_is_refused(
    topic: str, origins: str, tmp_path: Path
) -> None:
    origin = "https://trusted.example"
    flags = ["--allowed-origins", origins, "--auth", "required", "--data-dir", str(tmp_path)]
    with start_server(*flags, tcp_port=0) as process:
        async with http_client(process.url, headers={"Origin": origin}) as http:
            for headers, status in (({}, 401), ({"Host": "other.example"}, 421), ({"Host": "a b"}, 400)):
                for path in (f"/topics/{topic}/stream", f"/topics/{topic}/messages"):
                    answer = await http.get(path, headers=headers)
                    assert answer.status_code == status
                    assert answer.headers["access-control-allow-origin"] in {origin, "*"}
            stranger = await http.get("/livez", headers={"Origin": "https://evil.example", "Host": "other.example"})
            assert ("access-control-allow-origin" in stranger.headers) == (origins == "*")
