"""How much of a request's head is taken, and how long a request may take: floods and slowlorises, from the outside."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from app.web.fastpath.limits import MAX_PIPELINED, RequestLimits, SlowRequestDetector, Stage
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server

MAX_HEAD = 16 << 10
LONG = (431, "head_too_large")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """Our own protocol, with the default settings."""
    with start_server(tcp_port=0) as process:
        yield process


@pytest.fixture(scope="module")
def impatient() -> Iterator[ServerProcess]:
    with start_server("--head-timeout", "1s", "--body-timeout", "1s", tcp_port=0) as process:
        yield process


def publish(topic: str, *headers: str, target: str = "", body: bytes = b"x") -> bytes:
    lines = [
        f"POST {target or f'/topics/{topic}/messages'} HTTP/1.1",
        "Host: localhost",
        *(headers or [f"Content-Length: {len(body)}"]),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def padded(topic: str, size: int) -> bytes:
    """A publish with a head of so many bytes."""
    bare = len(publish(topic, "Content-Length: 1", "X: ")) - 1
    return publish(topic, "Content-Length: 1", "X: " + "y" * (size - bare))


def many(topic: str, count: int) -> bytes:
    """A publish with so many headers."""
    return publish(topic, "Content-Length: 1", *(f"A: {n}" for n in range(count - 2)))


def targeted(topic: str, size: int) -> bytes:
    path = f"/topics/{topic}/messages?"
    return publish(topic, target=path + "a" * (size - len(path)))


async def all_answers(server: ServerProcess, *pieces: bytes) -> list[tuple[int, str]]:
    """Status and code of every answer until the server ends the connection; each piece is sent by itself."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    async with asyncio.timeout(DEADLINE):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        text = await reader.read()
    await closed(writer)
    return answers_in(text)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close it, and wait until the loop has let go of the socket: it may have been reset, which is as good."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def answers_in(text: bytes) -> list[tuple[int, str]]:
    found = []
    while text:
        head, _, text = text.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body, text = text[:length], text[length:]
        found.append((int(head.split()[1]), json.loads(body).get("code", "")))
    return found


async def messages(server: ServerProcess, topic: str) -> int:
    async with http_client(server.url) as http:
        answer = await http.get(f"/topics/{topic}")
        return int(answer.json()["messages"]) if answer.status_code == 200 else 0


LAWFUL: dict[str, Callable[[str], bytes]] = {
    "a head of 16 KiB": lambda topic: padded(topic, MAX_HEAD),
    "100 headers": lambda topic: many(topic, 100),
}
REFUSED: dict[str, tuple[Callable[[str], bytes], tuple[int, str]]] = {
    "a head of one byte more": (lambda topic: padded(topic, MAX_HEAD + 1), LONG),
    "a header of 4 MiB": (lambda topic: padded(topic, 4 << 20), LONG),
    "a header of 4 MiB without an end": (lambda topic: padded(topic, 4 << 20)[:-5], LONG),
    "101 headers": (lambda topic: many(topic, 101), LONG),
    "20,000 headers": (lambda topic: many(topic, 20_000), LONG),
    "a target of 8 KiB and a byte": (lambda topic: targeted(topic, (8 << 10) + 1), (414, "target_too_long")),
    "a target of 1 MiB": (lambda topic: targeted(topic, 1 << 20), (414, "target_too_long")),
}
CUTS = {"whole": 1 << 30, "in pieces of 1,000 bytes": 1_000, "in pieces of 17 KiB": 17 << 10}


def cut(request: bytes, size: int) -> list[bytes]:
    return [request[start : start + size] for start in range(0, len(request), size)]


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("request_for", LAWFUL.values(), ids=LAWFUL)
async def test_what_is_just_within_the_limits_is_taken(
    server: ServerProcess, topic: str, request_for: Callable[[str], bytes], size: int
) -> None:
    end = publish(topic, "Connection: close", "Content-Length: 1")
    got = await all_answers(server, *cut(request_for(topic), size), end)
    assert [status for status, _ in got] == [201, 201]


async def test_a_target_of_8_kib_is_taken(server: ServerProcess, topic: str) -> None:
    got = await all_answers(server, targeted(topic, 8 << 10), padded(topic, MAX_HEAD + 1))
    assert got == [(400, "option_invalid"), LONG]


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize(("request_for", "expected"), REFUSED.values(), ids=REFUSED)
async def test_what_is_too_long_is_refused_and_nothing_of_it_done(
    server: ServerProcess, topic: str, request_for: Callable[[str], bytes], expected: tuple[int, str], size: int
) -> None:
    assert await all_answers(server, *cut(request_for(topic), size)) == [expected]
    assert await messages(server, topic) == 0


@pytest.mark.parametrize(("request_for", "expected"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_waits_for_its_turn(
    server: ServerProcess, topic: str, request_for: Callable[[str], bytes], expected: tuple[int, str]
) -> None:
    other = f"{topic}.other"
    wait = f"GET /topics/{topic}/messages?wait=1s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    before = publish(topic) + wait + publish(topic, "Content-Length: 1", "Idempotency-Key: k")
    got = await all_answers(server, before + request_for(other) + publish(other))
    assert [status for status, _ in got] == [201, 200, 201, expected[0]]
    assert await messages(server, topic) == 2
    assert await messages(server, other) == 0


async def test_many_requests_in_one_breath_are_not_one_long_head(server: ServerProcess, topic: str) -> None:
    long = padded(topic, MAX_HEAD)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(publish(topic) * 100 + long[:12_000])
    async with asyncio.timeout(DEADLINE):
        for _ in range(100):
            assert b" 201 " in await reader.readuntil(b"}\n")
        writer.write(long[12_000:])
        assert b" 201 " in await reader.readuntil(b"}\n")
    writer.close()


async def test_of_requests_that_are_sent_far_ahead_some_are_answered_and_the_connection_is_closed(
    server: ServerProcess, topic: str
) -> None:
    wait = f"GET /topics/{topic}/messages?wait=1s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    before = server.resident()
    got = await asyncio.gather(*(all_answers(server, wait + publish(f"{topic}.{n}") * 400) for n in range(20)))
    assert got == [[(200, "")] + [(201, "")] * MAX_PIPELINED] * 20
    for n in range(20):
        assert await messages(server, f"{topic}.{n}") == MAX_PIPELINED
    assert server.resident() - before < 16 << 20


CHUNKED = "Transfer-Encoding: chunked"
FRAMING = {
    "trailers": b"1\r\nx\r\n0\r\n" + b"A: b\r\n" * 20_000,
    "a trailer": b"1\r\nx\r\n0\r\nA: " + b"y" * (4 << 20),
    "an extension of a chunk": b"1;" + b"y" * (4 << 20),
}


@pytest.mark.parametrize("body", FRAMING.values(), ids=FRAMING)
async def test_what_frames_a_body_has_an_end_too(server: ServerProcess, topic: str, body: bytes) -> None:
    assert await all_answers(server, publish(topic, CHUNKED, body=b""), body) == [LONG]
    assert await messages(server, topic) == 0


async def test_a_trailer_is_no_header(server: ServerProcess, topic: str) -> None:
    body = b"1\r\nx\r\n0\r\nHost: evil.example\r\nOrigin: https://evil.example\r\n\r\n"
    got = await all_answers(server, publish(topic, CHUNKED, body=body), padded(topic, MAX_HEAD + 1))
    assert got == [(201, ""), LONG]


async def test_memory_does_not_grow_by_what_is_refused(server: ServerProcess, topic: str) -> None:
    await all_answers(server, padded(topic, 4 << 20)[:-5])
    before = server.resident()
    for _ in range(5):
        await asyncio.gather(*(all_answers(server, padded(topic, 4 << 20)[:-5]) for _ in range(10)))
    assert server.resident() - before < 16 << 20


# Time

SLOW: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    "silent": (b"", []),
    "blank lines": (b"\r\n", []),
    "half a head": (publish("slow")[:40], [(408, "request_timeout")]),
    "half a body": (publish("slow", "Content-Length: 100"), [(408, "request_timeout")]),
    "half a chunked body": (publish("slow", CHUNKED, body=b"5\r\nab"), [(408, "request_timeout")]),
    "half a head behind an answer": (publish("fast") + publish("slow")[:40], [(201, ""), (408, "request_timeout")]),
    "a body that was refused at its head": (
        publish("a*", "Content-Length: 100", "Content-Encoding: x"),
        [(400, "topic_invalid")],
    ),
}


@pytest.mark.parametrize(("said", "expected"), SLOW.values(), ids=SLOW)
async def test_a_client_that_sends_half_a_request_is_disconnected(
    impatient: ServerProcess, said: bytes, expected: list[tuple[int, str]]
) -> None:
    assert await all_answers(impatient, said) == expected
    assert await messages(impatient, "slow") == 0


async def _drip(server: ServerProcess, said: bytes) -> list[tuple[int, str]]:
    """Say it byte by byte, each when the loop has nothing better to do, until the server has enough."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    answer = asyncio.ensure_future(reader.read())
    for byte in said:
        if (await asyncio.wait([answer], timeout=0.1))[0]:
            break
        writer.write(bytes([byte]))
    text = await answer
    await closed(writer)
    return answers_in(text)


async def test_five_hundred_slow_clients_are_disconnected_and_a_healthy_one_is_not_harmed(
    impatient: ServerProcess, topic: str
) -> None:
    silent, half = (SLOW[name] for name in ("silent", "half a body"))
    dripping = publish("slow", "X: " + "y" * 1_000)
    files = impatient.open_files()
    async with (
        asyncio.timeout(2 * DEADLINE),
        stream(impatient, f"/topics/{topic}/stream") as events,
        http_client(impatient.url) as http,
    ):
        slow = [all_answers(impatient, said) for said, _ in [silent, half] * 170]
        crowd = asyncio.gather(*slow, *(_drip(impatient, dripping) for _ in range(160)))
        count = 0
        while not crowd.done():
            assert (await http.post(f"/topics/{topic}/messages", content=str(count))).status_code == 201
            assert await events.data(1) == [str(count)]
            count += 1
        got = await crowd
        while impatient.open_files() > files + 2:  # the healthy client's own
            await http.get("/livez")
    assert got == [silent[1], half[1]] * 170 + [[(408, "request_timeout")]] * 160
    assert count


async def test_a_client_that_waits_for_the_server_is_not_disconnected(impatient: ServerProcess, topic: str) -> None:
    async with stream(impatient, f"/topics/{topic}/stream") as events, http_client() as http:
        assert (await http.get(f"{impatient.url}/topics/{topic}/messages?wait=4s")).status_code == 200
        await http.post(f"{impatient.url}/topics/{topic}/messages", content="still here")
        assert await events.data(1) == ["still here"]


LIMITS = RequestLimits(max_head=1 << 14, head_timeout=10, body_timeout=30)


def looks(*seen: tuple[Stage | None, int, int, float]) -> list[bool]:
    """What a watch says at each look: stage, request, bytes, time."""
    watch = SlowRequestDetector()
    return [watch.is_slow(*look, LIMITS) for look in seen]


@pytest.mark.parametrize("stage", ["request", "head"])
def test_a_head_may_take_ten_seconds(stage: Stage) -> None:
    assert looks((stage, 1, 0, 100), (stage, 1, 0, 109.9), (stage, 1, 0, 110)) == [False, False, True]


def test_every_request_has_a_time_of_its_own() -> None:
    assert not any(looks(*(("head", n, 0, 100 + 9.0 * n) for n in range(10))))


def test_a_body_of_a_kibibyte_a_second_may_take_for_ever() -> None:
    assert not any(looks(*(("body", 1, 1_024 * n, float(n)) for n in range(1_000))))


def test_a_body_that_is_slower_may_take_thirty_seconds() -> None:
    late = looks(*(("body", 1, 1_023 * n, float(n)) for n in range(31)))
    assert late == [False] * 30 + [True]


def test_bytes_that_came_fast_do_not_excuse_a_body_that_stalls() -> None:
    late = looks(*(("body", 1, 1 << 20 if n else 0, float(n)) for n in range(61)))
    assert late == [False] * 60 + [True]


def test_a_client_that_waits_for_us_has_all_the_time() -> None:
    assert not any(looks(("body", 1, 0, 0), (None, 1, 0, 29), (None, 1, 0, 500), ("body", 1, 0, 900)))
