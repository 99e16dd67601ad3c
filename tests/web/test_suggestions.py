"""A slip in a path, a method or an option is told with what was probably meant."""

import asyncio
import random
import re

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess

SLIPS = [
    ("POST", "/topics/foo/message", 405, "POST /topics/foo/messages"),
    ("POST", "/topics/foo/bar/mesages", 405, "POST /topics/foo/bar/messages"),
    ("POST", "/topics/foo/publish", 405, "POST /topics/foo/messages"),
    ("POST", "/topics/foo", 405, "POST /topics/foo/messages"),
    ("POST", "/topics/a%2Fb%3F", 405, "POST /topics/a%2Fb%3F/messages"),
    ("POST", "/topics/foo/messages/", 405, "POST /topics/foo/messages"),
    ("GET", "/topics/foo/message", 404, "GET /topics/foo/messages"),
    ("GET", "/topics/foo/messages/", 400, "GET /topics/foo/messages"),
    ("GET", "/topics/foo/message/k3f9a2xq-42", 404, "GET /topics/foo/messages/k3f9a2xq-42"),
    ("GET", "/topics/foo/Streams", 404, "GET /topics/foo/stream"),
    ("GET", "/topics/foo/subscribe", 404, "GET /topics/foo/stream"),
    ("GET", "/topic/foo/stream", 404, "GET /topics/foo/stream"),
    ("PUT", "/topic/foo", 404, "PUT /topics/foo"),
    ("POST", "/topics/jobs/groups/g/pul", 405, "POST /topics/jobs/groups/g/pull"),
    ("POST", "/topics/jobs/group/g/ack", 405, "POST /topics/jobs/groups/g/ack"),
    ("POST", "/topics/jobs/groups/g", 405, "POST /topics/jobs/groups/g/pull"),
    ("DELETE", "/topics/jobs/group/g", 404, "DELETE /topics/jobs/groups/g"),
    ("GET", "/streams?topic=a", 404, "GET /stream"),
    ("GET", "/topic", 404, "GET /topics"),
    ("GET", "/healthz", 404, "GET /livez"),
    ("GET", "/metric", 404, "GET /metrics"),
    ("GET", "/ready", 404, "GET /readyz"),
]


@pytest.mark.parametrize(("method", "path", "status", "meant"), SLIPS)
async def test_a_slip_in_a_path_is_told_with_the_nearest_request(
    http: httpx.AsyncClient, method: str, path: str, status: int, meant: str
) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["detail"].endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/favicon.ico"), ("GET", "/topics/nope"), ("GET", "/topics/nope/messages/k3f9a2xq-42"),
        ("GET", "/topics/nope/groups/messages"), ("PUT", "/topics/nope/messages"), ("DELETE", "/topics/nope/stream"),
        ("GET", "/x" * 5_000), ("GET", "/topics/" + "message/" * 500), ("POST", "/metrics"), ("GET", "/%C3%A9"),
    ],
)  # fmt: skip
async def test_what_is_right_or_like_nothing_gets_no_guess(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    assert answer.status_code in {400, 404, 405, 414}
    assert "did you mean" not in answer.json()["detail"]


CANNOT_WORK = [
    ("POST", "/topics//messages"), ("POST", "/topics//message"), ("POST", "/topics/../message"),
    ("POST", "/topics/a/../message"), ("POST", "/topics/%2e%2e/message"), ("POST", "/topics/./message"),
    ("POST", "/topics/a%20b/message"), ("POST", "/topics/*/message"), ("PUT", "/topic/a.*"),
    ("POST", "/topics/a..b/message"),
    ("GET", "/topics/a/groups/../streams"), ("GET", "/topics/*/groups/g/streams"), ("POST", "/topics/a/groups/.g/pul"),
    ("POST", "//topics/a/message"), ("GET", "/../livez"), ("GET", "/topics/a/../../livez"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CANNOT_WORK)
async def test_no_request_is_suggested_that_cannot_work(server: ServerProcess, method: str, path: str) -> None:
    status, body = await raw(server, method, path)
    assert status >= 400
    assert b"did you mean" not in body


SEGMENTS = (
    "topics", "topics", "topic", "a", "a.b", "", ".", "..", "%2e%2e", "...", "messages", "message", "stream", "streams",
    "groups", "group", "g", ".g", "pull", "pul", "ack", "a%20b", "*", "**", "x*", "a-1", "livez", "a%2Fb", "a;b",
)  # fmt: skip
WORKS = re.compile(rb'"code":"not_found"|option .topic. is missing')  # the request is right, and says what it lacks


async def test_a_request_that_is_suggested_is_one_that_the_server_has(server: ServerProcess) -> None:
    draw, suggested = random.Random(20), 0
    for _ in range(600):
        method = draw.choice(("GET", "POST", "PUT", "DELETE"))
        first = draw.choice(("/topics/", "/topic/", "/"))
        path = first + "/".join(draw.choice(SEGMENTS) for _ in range(draw.randint(1, 5)))
        status, body = await raw(server, method, path)
        if status >= 400 and (meant := re.search(rb'did you mean (\w+) ([^"]+)\?"', body)):
            status, answer = await raw(server, meant[1].decode(), meant[2].decode())
            assert status < 500, (method, path, body, answer)
            assert status < 400 or WORKS.search(answer), (method, path, body, answer)
            assert b"there is nothing at" not in answer, (method, path, body)
            suggested += 1
    assert suggested > 20


async def raw(server: ServerProcess, method: str, path: str) -> tuple[int, bytes]:
    """The status and the body; of a stream only the status. httpx would resolve `..`."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"" if b"text/event-stream" in head else await reader.read()
    writer.close()
    return int(head.split()[1]), body


@pytest.mark.parametrize("option", ["topics", "Topic", "topic[]"])
async def test_a_slip_in_the_only_option_that_is_needed_is_told_with_its_name(
    http: httpx.AsyncClient, option: str
) -> None:
    answer = await http.get("/stream", params={option: "a"})
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert answer.json()["detail"] == f"{option!r} is not an option here; did you mean 'topic'?"


async def test_a_stream_of_no_topic_says_which_option_is_missing(http: httpx.AsyncClient) -> None:
    for path in ("/stream", "/stream?limit=1", "/stream?channel=a"):
        detail = (await http.get(path)).json()["detail"]
        assert detail == "option 'topic' is missing: expected ?topic=NAME, as often as is needed"


async def test_a_worker_whose_group_is_not_there_is_told_how_to_make_it(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    path = f"/topics/{topic}/jobs%3F/groups/g"
    answer = await http.get(f"{path}/stream")
    assert answer.status_code == 404
    assert f"PUT {path}, or a first POST to its /pull, makes one" in answer.json()["detail"]
    assert (await http.put(path)).is_success
    with httpx.stream("GET", f"{server.url}{path}/stream?timeout=1ms") as stream:
        assert stream.status_code == 200
