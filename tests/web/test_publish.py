"""POST /topics/{topic}/messages."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess, stream

pytestmark = pytest.mark.anyio


async def test_the_body_is_the_message_byte_for_byte(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream") as events:
        await http.post(
            f"/topics/{topic}/messages", content="größer als\n\n  two lines", headers={"Content-Type": "a/b"}
        )
        assert await events.data(1) == ["größer als\n\n  two lines"]


async def test_a_201_tells_the_place_the_listeners_and_the_durability(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream"), stream(server, f"/topics/{topic}/stream"):
        await http.post(f"/topics/{topic}/messages", content="one")
        answer = await http.post(f"/topics/{topic}/messages", content="two")
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == {"id", "topic", "index", "subscribers", "durability"}
    assert (body["topic"], body["index"], body["subscribers"], body["durability"]) == (topic, 1, 2, "memory")
    assert answer.headers["location"] == f"/topics/{topic}/messages/{body['id']}"


async def test_ids_rise_by_one_over_all_topics(http: httpx.AsyncClient, topic: str) -> None:
    ids = [(await http.post(f"/topics/{topic}.{n}/messages", content="x")).json()["id"] for n in range(3)]
    epochs, numbers = zip(*(id.split("-") for id in ids), strict=True)
    assert len(set(epochs)) == 1
    assert [int(n) - int(numbers[0]) for n in numbers] == [0, 1, 2]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("with%20space", "'with space'"),
        ("nul%00byte", "'nul\\x00byte'"),
        ("%ff", "'\\ufffd'"),
        ("a..b", "'a..b'"),
        ("a//b", "'a//b'"),
        ("a/../b", "'a/../b'"),
        ("a.", "'a.'"),
        ("st*r", "'st*r'"),
        ("a.*", "'a.*'"),
        ("x" * 2_000, "1024"),
        ("%F0%9F%98%80", "'\\U0001f600'"),
    ],
)
async def test_an_unlawful_topic_is_refused_with_what_was_seen(server: ServerProcess, path: str, what: str) -> None:
    status, body = await _raw_post(server, f"/topics/{path}/messages", b"x")
    assert status == 400
    assert '"code":"topic_invalid"' in body
    assert what.replace("\\", "\\\\") in body


async def _raw_post(server: ServerProcess, target: str, body: bytes) -> tuple[int, str]:
    """A POST whose target no client library tidies up."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    async with asyncio.timeout(DEADLINE):
        answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.mark.parametrize(
    "name", ["a", "a.b/c-d_e~f", "'quotes\"", "x" * 1_024, "{}", "%41", "UPPER.lower", "a/messages"]
)
async def test_a_lawful_topic_is_taken_as_it_is(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.post(
        httpx.URL("/topics/").join("").raw_path.decode() + _quoted(name) + "/messages", content="x"
    )
    assert answer.status_code == 201
    assert answer.json()["topic"] == name


def _quoted(name: str) -> str:
    return "".join(f"%{ord(char):02X}" if not char.isalnum() and char not in "./-_~" else char for char in name)


async def test_a_body_over_the_limit_is_refused_and_nothing_is_stored(http: httpx.AsyncClient, topic: str) -> None:
    largest = b"x" * (1 << 20)
    assert (await http.post(f"/topics/{topic}/messages", content=largest)).status_code == 201
    answer = await http.post(f"/topics/{topic}/messages", content=largest + b"x")
    assert (answer.status_code, answer.json()["code"]) == (413, "message_too_large")
    assert (await http.post(f"/topics/{topic}/messages", content="next")).json()["index"] == 1


async def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(server: ServerProcess, topic: str) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(17):
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
    async with asyncio.timeout(DEADLINE):
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_chunked_body_is_taken(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async with stream(server, f"/topics/{topic}/stream") as events:
        await http.post(f"/topics/{topic}/messages", content=parts())
        assert await events.data(1) == ["one two"]


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("evnt=x", "did you mean 'event'"),
        ("delivery=some", "'some'"),
        ("retain=no", "'no'"),
        ("ttl=10", "'10'"),
        ("ttl=5m&ttl=6m", "twice"),
        ("event=gr%C3%B6n", "printable ASCII"),
        ("event=" + "x" * 129, "128"),
        ("event=a%0Ab", "printable ASCII"),
    ],
)
async def test_an_option_that_cannot_be_read_is_refused(
    http: httpx.AsyncClient, topic: str, query: str, seen: str
) -> None:
    answer = await http.post(f"/topics/{topic}/messages?{query}", content="x")
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert seen in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_encoded_body_is_refused(http: httpx.AsyncClient, topic: str) -> None:
    answer = await http.post(f"/topics/{topic}/messages", content="x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "encoding_unsupported")


async def test_other_paths_and_methods_are_problems_too(http: httpx.AsyncClient, topic: str) -> None:
    missing = await http.get("/nothing/here")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await http.patch(f"/topics/{topic}/stream")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


async def test_a_client_that_leaves_in_the_middle_of_its_body_stores_nothing(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    with socket.create_connection((server.host, server.port)) as leaver:
        leaver.sendall(f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf".encode())
    assert (await http.post(f"/topics/{topic}/messages", content="whole")).json()["index"] == 0


async def test_health_answers(http: httpx.AsyncClient) -> None:
    assert (await http.get("/livez")).text == "ok\n"
    assert (await http.get("/readyz")).text == "ok\n"
