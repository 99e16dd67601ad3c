"""A subscriber that has its answer is live: what passes, and is kept for nobody, reaches it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server, start_uvicorn_with
from tests.line_client import lines

TIMES: Final = 20  # what is answered too early is found out in one or two
OTHERS: Final = 8  # publishers that keep the log busy


@pytest.fixture(params=["memory", "sqlite", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    if request.param == "uvicorn":
        with start_uvicorn_with(PLAINMQ_ENGINE=f"sqlite:{tmp_path}/log.db", PLAINMQ_MIN_FREE_DISK="0") as server:
            yield server
    else:
        engine = "memory" if request.param == "memory" else f"sqlite:{tmp_path}/log.db"
        with start_server("--engine", engine, "--min-free-disk", "0") as server:
            yield server


@pytest.fixture
async def http(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(server.url) as http:
        yield http


async def passes(http: httpx.AsyncClient, topic: str) -> None:
    """Publish what is kept for nobody, and then what is kept."""
    for text, retain in (("passing", "false"), ("kept", "true")):
        (await http.post(f"/topics/{topic}/messages?retain={retain}", content=text)).raise_for_status()


Log = Callable[[httpx.AsyncClient], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def busy(http: httpx.AsyncClient) -> AsyncIterator[None]:
    """The log accepts messages of another topic all the time."""

    async def publish() -> None:
        while True:
            (await http.post("/topics/other/messages", content="x")).raise_for_status()

    others = [asyncio.create_task(publish()) for _ in range(OTHERS)]
    try:
        yield
    finally:
        for other in others:
            other.cancel()
        for other in others:
            with suppress(asyncio.CancelledError):
                await other


@asynccontextmanager
async def idle(_http: httpx.AsyncClient) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("log", [idle, busy])
@pytest.mark.parametrize("since", ["latest", "earliest"])
async def test_a_stream_that_has_begun_gets_what_passes(
    server: ServerProcess, http: httpx.AsyncClient, since: str, log: Log
) -> None:
    async with log(http), asyncio.timeout(DEADLINE):
        for number in range(TIMES):
            async with stream(server, f"/topics/t{number}/stream?since={since}") as events:
                await passes(http, f"t{number}")
                assert await events.data(2) == ["passing", "kept"]


@pytest.mark.parametrize("log", [idle, busy])
@pytest.mark.parametrize(
    "line",
    [
        '{{"command":"subscribe","topic":"{topic}"}}',
        '{{"command":"subscribe","topic":"{topic}","cache":false}}',
        "sub {topic}",
    ],
)
async def test_a_line_client_whose_subscription_is_answered_gets_what_passes(
    server: ServerProcess, http: httpx.AsyncClient, line: str, log: Log
) -> None:
    async with log(http), lines(server) as client, asyncio.timeout(DEADLINE):
        for number in range(TIMES):
            client.send(line.format(topic=f"t{number}"))
            await client.next()
            await passes(http, f"t{number}")
            passing, kept = await client.take(2)
            assert b"passing" in passing
            assert b"kept" in kept
