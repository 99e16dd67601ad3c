"""What is on its way in or out of all clients together is bounded: beyond it somebody is refused, or cut off."""

import asyncio
import socket
from contextlib import AsyncExitStack, ExitStack

import httpx
import pytest

from app.errors import Overloaded
from app.limits.buffered_bytes import InboundBudget, OutboundBudget
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server, take_nothing
from tests.line_client import lines

MIB = 1 << 20


# By themselves


def test_what_came_in_counts_until_it_is_whole() -> None:
    inbound = InboundBudget(100)
    inbound.grow(0, 60)
    inbound.grow(0, 40)
    with pytest.raises(Overloaded, match="100 bytes"):
        inbound.grow(40, 41)
    inbound.grow(60, 0)
    inbound.grow(40, 100)
    inbound.grow(100, 0)
    assert inbound.held == 0


class SlowClient:
    evicted = 0

    def evict(self) -> None:
        self.evicted += 1


async def test_the_client_with_the_oldest_unread_bytes_is_cut_off_first() -> None:
    outbound = OutboundBudget(100, asyncio.get_running_loop())
    old, middle, new = clients = SlowClient(), SlowClient(), SlowClient()
    outbound.add(old, 40)
    outbound.add(middle, 40)
    outbound.drained(old)
    outbound.add(new, 20)
    outbound.add(old, 40)
    assert outbound.held == 100
    outbound.add(new, 1)
    assert [client.evicted for client in clients] == [0, 0, 0]
    await asyncio.sleep(0)
    assert [client.evicted for client in clients] == [0, 1, 0]
    outbound.drained(middle)
    assert outbound.held == 61


# In


def half(port: int, head: bytes) -> socket.socket:
    """A client that sends 400,000 bytes of something larger."""
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
    sock.sendall(head + b"x" * 400_000)
    return sock


PUBLISH = b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
ONE_MIB = ("--max-unfinished", "1MiB", "--max-batch", "1MiB", "--max-line", "1MiB")
HALVES = {
    "a plain publish": PUBLISH,
    "a publish with an option": PUBLISH.replace(b"/messages", b"/messages?event=x"),
    "a batch in chunks": (
        b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nF4240\r\n"
    ),
}


@pytest.mark.parametrize("head", HALVES.values(), ids=HALVES)
async def test_bodies_that_are_not_whole_are_bounded_together(head: bytes) -> None:
    with start_server(*ONE_MIB, tcp_port=0) as server, ExitStack() as stack:
        held = [stack.enter_context(half(server.port, head)) for _ in range(3)]
        refused = await asyncio.to_thread(_first_answer, held)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"overloaded"' in refused
        assert b"retry-after: 5" in refused.lower()
        for sock in held:
            sock.close()
        await _publish_until_stored(server, b"x" * 1_000_000)


def _first_answer(socks: list[socket.socket], end: bytes = b'"code"') -> bytes:
    """What the first of them is told that is told anything, as far as this."""
    for sock in socks:
        sock.setblocking(False)
    text = b""
    while end not in text:
        for sock in socks:
            try:
                text += sock.recv(65_536)
            except BlockingIOError:
                continue
    return text


async def _publish_until_stored(server: ServerProcess, body: bytes) -> None:
    async with http_client(server.url) as http, asyncio.timeout(DEADLINE):
        while (answer := await http.post("/topics/foo/messages", content=body)).status_code != 201:
            assert answer.status_code == 503


async def test_lines_that_are_not_whole_are_bounded_with_them() -> None:
    with start_server(*ONE_MIB) as server, ExitStack() as stack:
        held = [stack.enter_context(half(server.tcp_port, b"pub foo ")) for _ in range(3)]
        refused = await asyncio.to_thread(_first_answer, held, b"\r\n")
        assert refused.startswith(b"ERR overloaded clients have sent ")
        async with lines(server) as whole:
            whole.send("pub foo a short one is taken at once")
            assert (await whole.next()).startswith(b"OK ")


# Out


async def test_unread_bytes_of_subscribers_are_bounded_together_and_other_subscribers_miss_nothing() -> None:
    """Each in a cohort of its own, so that nothing is shared; none of them is stalled for long enough to be cut off."""
    flags = ["--max-unsent", "16MiB", "--stall-timeout", "1h", "--max-bytes", "64MiB"]
    with start_server(*flags) as server, ExitStack() as stack:
        async with (
            http_client(server.url) as http,
            stream(server, "/topics/foo/stream") as healthy,
            asyncio.timeout(3 * DEADLINE),
        ):
            await http.post("/topics/foo/messages", content=b"0" * MIB)
            assert len(await healthy.data(1)) == 1
            before = server.resident()
            for n in range(50):
                live = f"GET /topics/foo/stream?limit={1_000 + n} HTTP/1.1\r\nHost: localhost\r\n\r\n"
                replay = live.replace("limit=", "since=earliest&limit=")
                for request in (live, replay):
                    stack.enter_context(take_nothing(server.port, request.encode()))
            for _ in range(5):
                batch = b"\n".join([b"1" * (MIB // 4)] * 12)
                headers = {"Content-Type": "application/x-ndjson"}
                answer = await http.post("/topics/foo/messages", content=batch, headers=headers)
                assert answer.status_code == 201
                assert {len(body) for body in await healthy.data(12)} == {MIB // 4}
            growth = server.resident() - before
            metrics = (await http.get("/metrics")).text
            assert "plainmq_evictions_total 0.0\n" not in metrics
            assert (
                growth < 100 * MIB
            )  # of 16 MiB that a subscriber would have: 15 kept, 16 unsent, 100 times 64 KiB, and air


async def test_unread_answers_are_bounded_together() -> None:
    flags = ["--max-unsent", "16MiB", "--stall-timeout", "1h"]
    with start_server(*flags, tcp_port=0) as server, ExitStack() as stack:
        async with http_client(server.url) as http, asyncio.timeout(DEADLINE):
            await http.post("/topics/foo/messages", content=b"0" * MIB)
            files = server.open_files()
            ask = b"GET /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for _ in range(40):
                stack.enter_context(take_nothing(server.port, ask))
            taken = 0
            while not taken or server.open_files() - files > 17:  # 16 MiB are less than so many such answers
                assert len((await http.get("/topics/foo/messages")).content) > MIB
                taken += server.open_files() - files > 17


async def test_one_connection_too_many_is_closed_and_a_place_that_was_left_is_taken() -> None:
    with start_server("--max-http-clients", "3", tcp_port=0) as server:
        async with AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(stream(server, "/topics/foo/stream")) for _ in range(3)]
            async with http_client(server.url) as http:
                with pytest.raises(httpx.TransportError):
                    await http.get("/livez")
                streams.pop().writer.close()
                async with asyncio.timeout(DEADLINE):
                    while not await _publishes(http):
                        pass
                for events in streams:
                    assert await events.data(1) == ["x"]


async def _publishes(http: httpx.AsyncClient) -> bool:
    """Whether it has a connection."""
    try:
        return (await http.post("/topics/foo/messages", content=b"x")).status_code == 201
    except httpx.TransportError:
        return False
