"""One HTTP connection and what a client may do on it: many requests at once, the wrong protocol, half a request."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.event_stream import Stream, stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server


def post(topic: str, body: bytes, *headers: str, query: str = "") -> bytes:
    lines = [
        f"POST /topics/{topic}/messages{query} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def answers(server: ServerProcess, request: bytes, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many answers to what is sent in one piece."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(request)
    got = []
    async with asyncio.timeout(DEADLINE):
        for _ in range(count):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split("\r\n")[0])
            got.append((int(head.split()[1]), await reader.readexactly(length)))
    writer.close()
    return got


async def test_pipelined_requests_are_answered_in_their_order(server: ServerProcess, topic: str) -> None:
    request = b"".join(
        post(topic, b"%d" % n) + get(f"/topics/{topic}") + post(topic, b"%d" % n, f"Idempotency-Key: k{n}")
        for n in range(20)
    )
    got = await answers(server, request, 60)
    assert [status for status, _ in got] == [201, 200, 201] * 20
    assert [json.loads(body)["index"] for _, body in got[::3]] == list(range(0, 40, 2))
    assert [json.loads(body)["messages"] for _, body in got[1::3]] == list(range(1, 41, 2))


async def test_a_body_that_comes_byte_by_byte_is_one_message(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    for byte in post(topic, b"slowly"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE):
        assert b" 201 " in await reader.readline()
    writer.close()
    assert (await http.get(f"/topics/{topic}/messages")).json()["messages"][0]["data"] == "slowly"


async def test_a_request_behind_a_stream_does_not_break_into_it(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(post(topic, b"before"))
    events = Stream(reader, writer)
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"}\n")
    await events.open(f"/topics/{topic}/stream?since=earliest", {}, behind=post(topic, b"behind"))
    assert await events.data(1) == ["before"]
    await http.post(f"/topics/{topic}/messages", content="after")
    assert (await events.data(1))[0] in {"after", "behind"}
    writer.close()


@pytest.mark.slow
async def test_a_stream_behind_a_publish_lives_on() -> None:
    with start_server("--keep-alive", "1s", tcp_port=0) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(post("foo", b"x") + get("/topics/foo/stream"))
        async with asyncio.timeout(DEADLINE):
            for _ in range(8):  # seconds: longer than an idle connection is kept
                await reader.readuntil(b"\r\n:\n\r\n")  # a chunk
        writer.close()


async def test_a_client_that_leaves_a_stream_it_sent_a_body_for_is_not_counted(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    await http.put(f"/topics/{topic}")
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(
        f"GET /topics/{topic}/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n".encode()
        + b" " * 1_000
    )
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"retry: ")
        writer.transport.abort()
        while (await http.get(f"/topics/{topic}")).json()["subscribers"]:
            pass


async def test_a_subscriber_that_claimed_an_older_message_resumes_at_its_own_position(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    await http.post(f"/topics/{topic}.jobs/messages?delivery=one", content="job")
    last = [(await http.post(f"/topics/{topic}.news/messages", content=str(n))).json()["id"] for n in range(5)][-1]
    async with stream(server, f"/topics/{topic}.*/stream?format=raw", Last_Event_ID=last) as events:
        assert await events.data(1) == ["job"]
        while int(events.parser.last_event_id.split("-")[1]) < int(last.split("-")[1]):
            await events.feed()


async def test_coming_back_to_the_place_of_the_first_block_is_no_gap(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    await http.post(f"/topics/{topic}/messages", content="x")
    await http.delete(f"/topics/{topic}")
    async with stream(server, f"/topics/{topic}/stream?since=earliest") as events:
        while not events.parser.last_event_id:
            await events.feed()
        place = events.parser.last_event_id
    async with stream(server, f"/topics/{topic}/stream?since=earliest", Last_Event_ID=place) as events:
        await http.post(f"/topics/{topic}/messages", content="next")
        (event,) = await events.take(1)
        assert (event.type, event.data) == ("message", "next")


async def test_a_gap_on_a_quiet_topic_is_reported_once(server: ServerProcess, topic: str) -> None:
    async with stream(server, f"/topics/{topic}/stream", Last_Event_ID="old-7") as events:
        assert (await events.take(1))[0].type == "gap"
        while not events.parser.last_event_id:
            await events.feed()
        assert events.parser.last_event_id.split("-")[0] != "old"


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
async def test_a_client_that_closes_its_sending_side_still_gets_its_answer(tmp_path: Path, engine: str) -> None:
    """As by `nc -N`."""
    chosen = f"sqlite:{tmp_path / 'log.db'}" if engine == "sqlite" else engine
    with start_server("--engine", chosen, tcp_port=0) as server:
        for _ in range(20):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            writer.write_eof()
            async with asyncio.timeout(DEADLINE):
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 201 ")
            writer.close()


@pytest.mark.parametrize("target", ["/topics/caf\u00e9/messages", "/topics/a/messages?limit=\u0661"])
async def test_an_error_about_a_url_that_is_not_ascii_says_how_to_write_it(target: str) -> None:
    with start_server(tcp_port=0) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"a URL is written in ASCII" in answer
        writer.close()


@pytest.mark.parametrize("sent", [b"half", b"whole", b""])
async def test_a_client_that_disconnects_after_a_part_of_a_publish_leaves_no_connection_behind(sent: bytes) -> None:
    head = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    with start_server(tcp_port=0) as server:
        for _ in range(20):
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(head + sent)
            writer.write_eof()
            writer.close()
        async with http_client(server.url) as http, asyncio.timeout(DEADLINE):
            while 'plainmq_connections{door="http"} 1.0' not in (await http.get("/metrics")).text:
                pass
