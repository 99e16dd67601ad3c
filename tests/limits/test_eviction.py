"""Who takes nothing is cut off: its socket is gone, its place is free, and what it held goes to others."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server, start_uvicorn_with, take_nothing

BODY = b"x" * (1 << 16)


@pytest.fixture(params=["own protocol", "plain ASGI"])
def impatient(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    own = start_server("--stall-timeout", "1s", "--max-bytes", "64MiB")
    with (
        own
        if request.param == "own protocol"
        else start_uvicorn_with(PLAINMQ_STALL_TIMEOUT="1s", PLAINMQ_MAX_BYTES="64MiB") as server
    ):
        yield server


def get(path: str, version: str = "1.1") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode()


HTTP = {
    "a stream": get("/topics/foo/stream"),
    "a stream of HTTP/1.0": get("/topics/foo/stream", "1.0"),
    "a stream in a cohort of its own": get("/topics/foo/stream?limit=100000"),
    "a replay": get("/topics/foo/stream?since=earliest"),
    "a worker": get("/topics/foo/groups/g/stream?credit=100"),
}
LINES = {
    "a subscriber in literals": b"{'command':'subscribe', 'topic':'foo'}\n",
    "a subscriber in JSON": b'{"command":"subscribe","topic":"foo"}\n',
    "a subscriber in words": b"sub foo\n",
    "a worker in JSON": b'{"command":"subscribe","topic":"foo","group":"g","credit":100}\n',
}


async def test_a_client_that_reads_nothing_is_cut_off_and_leaves_nothing_behind(impatient: ServerProcess) -> None:
    async with (
        asyncio.timeout(3 * DEADLINE),
        http_client(impatient.url) as http,
        stream(impatient, "/topics/foo/stream") as healthy,
    ):
        await http.put("/topics/foo/groups/g")
        files = impatient.open_files()
        sockets = [take_nothing(impatient.port, request) for request in HTTP.values()]
        sockets += [take_nothing(impatient.tcp_port, request) for request in LINES.values()]
        await _until(http, subscribers=1 + len(sockets) - 2, workers=2)
        for n in range(200):
            assert (await http.post("/topics/foo/messages", content=b"%03d" % n + BODY)).status_code == 201
            assert [body[:3] for body in await healthy.data(1)] == [f"{n:03d}"]
        await _until(http, subscribers=1, workers=0)
        group = (await http.get("/topics/foo/groups/g")).json()
        assert (group["ready"] + group["delayed"], group["leased"]) == (200, 0)
        assert "plainmq_evictions_total 0.0\n" not in (await http.get("/metrics")).text
        while impatient.open_files() > files:
            await http.get("/livez")
        for sock in sockets:
            sock.close()
    assert impatient.stop() in {0, -signal.SIGTERM}  # uvicorn raises the signal again
    assert impatient.process.stderr
    assert "Traceback" not in impatient.process.stderr.read()


async def _until(http: httpx.AsyncClient, **wanted: int) -> None:
    """Return when the topic has so many subscribers and its group so many workers."""
    have: dict[str, Any] = {}
    while {name: have.get(name) for name in wanted} != wanted:
        have = (await http.get("/topics/foo")).json() | (await http.get("/topics/foo/groups/g")).json()
