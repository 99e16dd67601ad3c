"""A real server answers as openapi/openapi.yaml says."""

import base64
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest

from tests.docs.document import (
    EVENT_STREAM,
    OPERATIONS,
    STREAM_MEDIA,
    WORK_MEDIA,
    blocks,
    check,
    check_response,
    complaints,
    item_complaints,
    resolve,
)
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, own_address, start_server

TOPICS = "/topics"
TOPIC = "/topics/{topic}"
MESSAGES = "/topics/{topic}/messages"
MESSAGE = "/topics/{topic}/messages/{id}"
STREAM = "/topics/{topic}/stream"
GROUP = "/topics/{topic}/groups/{group}"


@pytest.mark.parametrize("body", [b"hello", b"", b"two\nlines", b"\xff\xfe\0"])
@pytest.mark.parametrize("options", ["", "?event=hi&delivery=one&ttl=10m&retain=true"])
async def test_a_publish_is_answered_as_documented(
    http: httpx.AsyncClient, topic: str, body: bytes, options: str
) -> None:
    response = await http.post(f"/topics/{topic}/messages{options}", content=body)
    assert response.status_code == 201
    check("POST", MESSAGES, response)


@pytest.mark.parametrize("written", ["/", "%2F"])
async def test_a_slash_in_a_topic_may_be_written_bare_or_encoded(
    http: httpx.AsyncClient, topic: str, written: str
) -> None:
    response = await http.post(f"/topics/{topic}{written}42/messages", content=b"x")
    assert response.json()["topic"] == f"{topic}/42"


@pytest.mark.parametrize(
    ("request_line", "code", "more"),
    [
        ("POST /topics/a%20b/messages", "topic_invalid", {}),
        ("POST /topics/a*/messages", "topic_invalid", {}),
        ("POST /topics/a%FF/messages", "topic_invalid", {}),
        ("GET /topics/a..b/stream", "topic_invalid", {}),
        ("POST /topics/a/messages?evnt=x", "option_invalid", {}),
        ("POST /topics/a/messages?ttl=soon", "option_invalid", {}),
        ("POST /topics/a/messages?delivery=one&delivery=all", "option_invalid", {}),
        ("GET /topics/a/stream?since=then", "option_invalid", {}),
        ("GET /topics/a/stream?last_event_id=42", "option_invalid", {}),
        ("GET /topics/a/stream", "option_invalid", {"headers": {"Last-Event-ID": "A-1"}}),
        ("POST /topics/a/messages", "message_too_large", {"content": bytes((1 << 20) + 1)}),
        ("POST /topics/a/messages", "encoding_unsupported", {"headers": {"Content-Encoding": "gzip"}}),
        ("POST /topics/a%20b/groups/g/pull", "topic_invalid", {}),
        ("POST /topics/a/groups/-/pull", "group_invalid", {}),
        ("POST /topics/a/groups/g/pull?max=0", "option_invalid", {}),
        ("GET /topics/a/groups/-/stream", "group_invalid", {}),
        ("GET /topics/a/groups/g/stream?credit=101", "option_invalid", {}),
        ("GET /topics/no.such/groups/g/stream", "not_found", {"headers": {"Accept": EVENT_STREAM}}),
        ("POST /topics/a/groups/g/ack", "option_invalid", {}),
        ("POST /topics/a/groups/g/ack", "message_too_large", {"content": bytes(1 << 17)}),
        ("POST /topics/no.such/groups/g/ack", "not_found", {"json": {"ids": ["k3f9a2xq-42"]}}),
    ],
)
async def test_a_refusal_is_answered_as_documented(
    http: httpx.AsyncClient, request_line: str, code: str, more: Mapping[str, Any]
) -> None:
    method, path = request_line.split()
    response = await http.request(method, path, **more)
    assert response.json()["code"] == code
    check(method, re.sub(r"/topics/[^/]+(?:/groups/[^/]+)?", _templated, path.partition("?")[0]), response)


def _templated(path: re.Match[str]) -> str:
    return GROUP if "/groups/" in path[0] else TOPIC


@pytest.mark.parametrize(
    ("method", "path", "component"),
    [
        ("GET", "/nothing/here", "NotFound"),
        ("POST", "/topics/a/messages/", "MethodNotAllowed"),
        ("POST", "/topics/a/groups/g", "MethodNotAllowed"),
        ("PUT", "/livez", "MethodNotAllowed"),
    ],
)
async def test_a_path_or_method_that_is_not_there_is_answered_as_documented(
    http: httpx.AsyncClient, method: str, path: str, component: str
) -> None:
    response = await http.request(method, path)
    check_response(response, {"$ref": f"#/components/responses/{component}"})


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_health_is_answered_as_documented(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert response.status_code == 200
    check("GET", path, response)


async def test_a_batch_a_repetition_and_a_delay_are_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/messages"
    batch = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "b"}
    answers = [
        await http.post(path, headers=batch, content=b'{"a":1}\n\n{"a":2}\n'),
        await http.post(path, headers=batch, content=b'{"a":1}\n\n{"a":2}\n'),
        await http.post(f"{path}?delay=1h", headers={"Idempotency-Key": "d"}, content=b"later"),
        await http.post(f"{path}?delay=1h", headers={"Idempotency-Key": "d"}, content=b"later"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 202, 202]
    assert [answer.json().get("duplicate") for answer in answers] == [None, True, None, True]
    for answer in answers:
        check("POST", MESSAGES, answer)


async def test_reading_is_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/messages"
    first = (await http.post(path, content=b"hello")).json()["id"]
    await http.post(f"{path}?event=e", content=b"\xff")
    lost = {"since": "another-7", "limit": "1"}
    page = await http.get(path, params=lost)
    assert page.json()["gap"]["reason"] == "epoch"
    assert page.json()["next"] == first
    rest = await http.get(path, params={"since": first, "wait": "1s"})
    assert [message["data_base64"] for message in rest.json()["messages"]] == ["/w=="]
    for answer in (page, rest):
        check("GET", MESSAGES, answer)
    lines = await http.get(path, params=lost, headers={"Accept": "application/x-ndjson"})
    check("GET", MESSAGES, lines)
    schema = resolve(OPERATIONS[MESSAGES, "GET"]["responses"]["200"])["content"]["application/x-ndjson"]["itemSchema"]
    records = [json.loads(line) for line in lines.text.splitlines()]
    assert len(records) == 2
    assert not [wrong for record in records for wrong in complaints(record, schema)]
    body = await http.get(f"{path}/{first}")
    assert (body.status_code, body.content) == (200, b"hello")
    missing = await http.get(f"{path}/{first}0")
    assert missing.status_code == 404
    for answer in (body, missing, await http.get(f"{path}/{first}!")):
        check("GET", MESSAGE, answer)


async def test_topics_are_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}"
    changed = await http.put(path, json={"max_messages": 5, "max_age": "1h"})
    assert changed.json()["retention"] == {"max_messages": 5, "max_bytes": 8 << 20, "max_age": "1h"}
    check("PUT", TOPIC, changed)
    for body in (b'{"max_messages":0}', b'{"most":1}', b"[" * 4000, bytes(5000)):
        refused = await http.put(path, content=body)
        assert refused.is_client_error
        check("PUT", TOPIC, refused)
    check("GET", TOPIC, await http.get(path))
    every = await http.get("/topics", params={"match": f"{topic}"})
    assert len(every.json()["topics"]) == 1
    for answer in (every, await http.get("/topics?match=a..b")):
        check("GET", TOPICS, answer)
    deleted, again = await http.delete(path), await http.delete(path)
    assert (deleted.status_code, again.status_code) == (204, 404)
    for answer in (deleted, again):
        check("DELETE", TOPIC, answer)
    check("GET", TOPIC, await http.get(path))


async def test_work_is_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/groups/g"
    for body in (b"work", b"\xff"):
        await http.post(f"/topics/{topic}/messages?event=e", content=body)
    for headers, take in (({}, _pulled), ({"Accept": "application/x-ndjson"}, _pulled_lines)):
        pulled = await http.post(f"{path}/pull?max=1&lease=1m&wait=1s", headers=headers)
        check("POST", f"{GROUP}/pull", pulled)
        (record,) = take(pulled)
        assert not complaints(record, {"$ref": "#/components/schemas/LeaseRecord"})
        settled = await http.post(f"{path}/ack", json={"ids": [record["id"], "another-7"]})
        assert settled.json()["results"] == {record["id"]: "done", "another-7": "unknown"}
        check("POST", f"{GROUP}/ack", settled)
        for action in ("nack", "extend"):
            late = await http.post(f"{path}/{action}", json={"ids": [record["lease"]]})
            assert (late.status_code, late.json()["results"]) == (409, {record["lease"]: "expired"})
            check("POST", f"{GROUP}/{action}", late)


def _pulled(response: httpx.Response) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = response.json()["messages"]
    return messages


def _pulled_lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


async def test_groups_are_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/groups/g"
    missing = await http.get(f"{path}/stream")
    assert missing.status_code == 404
    check("GET", f"{GROUP}/stream", missing)
    settings = {"start": "earliest", "ack_timeout": "1m", "max_deliveries": 2.0, "dead_letter": f"{topic}.lost"}
    made = await http.put(path, json=settings)
    assert {name: made.json()[name] for name in settings} == settings
    await http.post(f"/topics/{topic}/messages", content=b"work")
    seen = await http.get(path)
    assert (seen.json()["lag"], seen.json()["oldest"]["time"][-1]) == (1, "Z")
    for answer in (await http.put(path, content=bytes(1 << 17)), await http.put(path, json={"start": "latest"})):
        assert answer.is_client_error
        check("PUT", GROUP, answer)
    check("PUT", GROUP, made)
    check("GET", GROUP, seen)
    check("GET", TOPIC, await http.get(f"/topics/{topic}"))
    deleted, again = await http.delete(path), await http.delete(path)
    assert (deleted.status_code, again.status_code) == (204, 404)
    for answer in (deleted, again):
        check("DELETE", GROUP, answer)
    check("GET", GROUP, await http.get(path))


async def test_a_dead_message_is_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/groups/g"
    await http.put(path, json={"max_deliveries": 1})
    id = (await http.post(f"/topics/{topic}/messages", content=b"work")).json()["id"]
    await http.post(f"{path}/pull")
    await http.post(f"{path}/nack", json={"ids": [id]})
    page = await http.get(f"/topics/{topic}.dead/messages")
    assert page.json()["messages"][0]["dead"]["id"] == id
    check("GET", MESSAGES, page)


async def test_the_jobs_of_a_group_are_as_documented_in_each_state(http: httpx.AsyncClient, topic: str) -> None:
    path, fields = f"/topics/{topic}/groups/g", {"X-Plainmq-Title": "tea", "X-Plainmq-Retries": "2"}
    await http.put(path, json={"max_deliveries": 2, "dead_letter": f"{topic}.dead"})
    for body in (b"dies", b"waits", b"\xff", b"x" * 70_000):
        await http.post(f"/topics/{topic}/messages?event=e", content=body, headers=fields)
    for delay in ("0", "0", "1h"):
        (lease,) = _pulled(await http.post(f"{path}/pull?max=1&wait=1s"))
        await http.post(f"{path}/nack?delay={delay}", json={"ids": [lease["id"]], "reason": "no paper"})
    await http.post(f"{path}/pull?max=1")
    for state in ("ready", "leased", "delayed", "dead"):
        page = await http.get("/jobs", params={"topic": topic, "group": "g", "state": state})
        (job,) = page.json()["jobs"]
        assert job["headers"] == {"title": "tea", "retries": "2"}
        check("GET", "/jobs", page)


async def test_a_group_s_stream_is_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    await http.put(f"/topics/{topic}/groups/g")
    for body in (b"work", b"\xff"):
        await http.post(f"/topics/{topic}/messages?event=e", content=body)
    async with http.stream("GET", f"/topics/{topic}/groups/g/stream") as response:
        check("GET", f"{GROUP}/stream", response)
        items = await _items(response, 2)
    assert [item.get("event") for item in items] == ["e", "e"]
    for item in items:
        assert not item_complaints(item, WORK_MEDIA["itemSchema"], "work")


async def test_a_group_too_many_is_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    answers = [await http.put(f"/topics/{topic}/groups/{number}") for number in range(101)]
    assert [answer.status_code for answer in answers] == [200] * 100 + [429]
    for answer in answers:
        check("PUT", GROUP, answer)
    check("POST", f"{GROUP}/pull", await http.post(f"/topics/{topic}/groups/another/pull"))


async def test_a_stream_for_scripts_ends_by_itself(server: ServerProcess, topic: str) -> None:
    async with client(server) as http:
        for number in range(3):
            await http.post(f"/topics/{topic}/messages", content=str(number).encode())
    for path in (STREAM.format(topic=topic) + "?", f"/stream?topic={topic}&topic=no.*&format=raw&"):
        async with client(server) as http:
            limited = await http.get(f"{path}since=earliest&limit=2")
        assert [item.get("data") for item in blocks(limited.text)] == ["0", "1"]
        async with client(server) as http:
            timed = await http.get(f"{path}timeout=10ms")
        assert [item["event"] for item in blocks(timed.text)] == ["place"]
        check("GET", "/stream" if path.startswith("/stream") else STREAM, limited)


async def test_a_stream_that_ends_says_so_when_its_connection_ends_too(server: ServerProcess, topic: str) -> None:
    """Or else a client with a pool sends its next request into a connection that the server has closed."""
    async with stream(server, f"/topics/{topic}/stream?timeout=10ms") as ending:
        assert await ending.next() is None
        if ending.headers.get("connection") != "close":
            await ending.open("/livez", {})
            assert ending.status == 200


async def _items(response: httpx.Response, ids: int) -> list[dict[str, Any]]:
    """The items of a stream until `ids` of them were messages, or its end."""
    text = ""
    items: list[dict[str, Any]] = []
    async for part in response.aiter_text():
        text += part
        items = blocks(text[: text.rfind("\n\n") + 2])
        if sum("id" in item and item.get("event") != "place" for item in items) >= ids:
            break
    return items


@pytest.mark.parametrize("form", ["raw", "json"])
async def test_a_stream_s_items_are_as_documented(http: httpx.AsyncClient, topic: str, form: str) -> None:
    for body in (b"hello", b"two\nlines", b"\xff", b"", b"a\rb"):
        await http.post(f"/topics/{topic}/messages?event=price", content=body)
    path = f"/topics/{topic}/stream?format={form}&last_event_id=another-7"
    async with http.stream("GET", path) as response:
        check("GET", STREAM, response)
        assert response.headers["x-accel-buffering"] == "no"
        items = await _items(response, 5)
    assert [item.get("event") for item in items] == ["gap", *["price"] * 5]
    for item in items:
        assert not item_complaints(item, STREAM_MEDIA["itemSchema"], form)


async def test_a_body_that_a_stream_cannot_carry_comes_as_a_data_url(http: httpx.AsyncClient, topic: str) -> None:
    await http.post(f"/topics/{topic}/messages", content=b"a\rb", headers={"Content-Type": "text/x"})
    async with http.stream("GET", f"/topics/{topic}/stream?since=earliest") as response:
        item = (await _items(response, 1))[-1]
    assert item["data"] == f"data:text/x;base64,{base64.b64encode(bytes([97, 13, 98])).decode()}"


@contextmanager
def full_server() -> Iterator[ServerProcess]:
    """Room for one topic of about five messages and for one subscriber."""
    small = ["--max-message", "1000", "--max-bytes", "100000", "--max-total-bytes", "9000"]
    with start_server("--max-topics", "1", "--max-subscribers", "1", *small) as process:
        yield process


@pytest.fixture(scope="module")
def full() -> Iterator[ServerProcess]:
    with full_server() as process:
        yield process


@asynccontextmanager
async def client(process: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(process.url) as http:
        yield http


async def test_a_server_that_is_full_answers_as_documented(full: ServerProcess) -> None:
    async with client(full) as http:
        answers = [await http.post("/topics/only/messages", content=bytes(1000)) for _ in range(8)]
        answers.append(await http.post("/topics/another/messages", content=b"x"))
    assert {answer.status_code for answer in answers} == {201, 429, 507}
    for answer in answers:
        check("POST", MESSAGES, answer)


async def test_a_client_beyond_its_share_is_answered_as_documented() -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with start_server(
        "--host", address, "--auth", "none", "--publish-rate", "1", "--publish-burst", "1", tcp_port=0
    ) as process:
        process.url = f"http://{address}:{process.port}"
        async with client(process) as http:
            batch = {"Content-Type": "application/x-ndjson"}
            await http.post("/topics/foo/messages", content=b"1\n" * 60, headers=batch)
            for path in ("/topics/foo/messages", "/topics/foo/messages?event=x"):
                refused = await http.post(path, content=b"x")
                assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
                check("POST", MESSAGES, refused)


async def test_one_subscriber_too_many_is_answered_as_documented(full: ServerProcess) -> None:
    path = "/topics/only/stream"
    async with stream(full, path), client(full) as http:
        refused = await http.get(path)
        assert refused.status_code == 503
        check("GET", STREAM, refused)
        as_event = await http.get(path, headers={"Accept": EVENT_STREAM})
        assert as_event.status_code == 200
        check("GET", STREAM, as_event)
        (item,) = blocks(as_event.text)
        assert item["event"] == "busy"
        assert not item_complaints(item, STREAM_MEDIA["itemSchema"])


async def test_a_server_that_stops_answers_as_documented() -> None:
    with start_server() as process:
        late = socket.create_connection((process.host, process.port), DEADLINE)
        with late:
            late.sendall(b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na")
            async with client(process) as http, http.stream("GET", "/topics/foo/stream") as response:
                process.process.send_signal(signal.SIGTERM)
                items = blocks((await response.aread()).decode())
            late.sendall(b"b")
            answer = b"".join(iter(lambda: late.recv(65536), b""))
        assert process.process.wait(DEADLINE) == 0
    assert [item.get("event") for item in items] == ["place", "bye"]
    assert json.loads(items[-1]["data"]) == {"reason": "draining"}
    for item in items:
        assert not item_complaints(item, STREAM_MEDIA["itemSchema"])
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    check("POST", MESSAGES, httpx.Response(int(status.split()[1]), headers=headers, content=body))
    assert json.loads(body)["code"] == "draining"
