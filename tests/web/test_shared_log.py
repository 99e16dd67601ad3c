"""What a server of a shared log says to those who watch over it: whether it lives, and whether it is ready."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import time

import httpx

from app.broker.broker import Broker
from app.log.topic_log import Limits
from app.storage.clock import Clock
from app.storage.replicated.engine import ReplicatedEngine
from app.web.app import create_app
from app.web.middleware.origin import Rules
from app.web.publish_request import PublishLimits
from tests.engines.local_journal import LocalJournal, SharedLog
from tests.harness import DEADLINE, OPEN

STEP = 0.01  # seconds between two looks at a server


@asynccontextmanager
async def served(journal: LocalJournal) -> AsyncIterator[httpx.AsyncClient]:
    async with Broker(ReplicatedEngine(Limits(), Clock(), journal)) as broker:
        transport = httpx.ASGITransport(create_app(broker, OPEN, PublishLimits(), Rules()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield http


async def states(http: httpx.AsyncClient) -> list[int]:
    return [(await http.get(path)).status_code for path in ("/livez", "/readyz")]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await holds():  # noqa: ASYNC110  # what is waited for is told to nobody
            await asyncio.sleep(STEP)


async def test_a_log_that_has_failed_is_neither_alive_nor_ready() -> None:
    log = SharedLog(time)
    async with served(LocalJournal(log)) as http:
        assert await states(http) == [200, 200]
        log.append(b"a link", b"of another program")

        async def has_failed() -> bool:
            return await states(http) == [503, 503]

        await until(has_failed)
        for path in ("/livez", "/readyz"):
            answer = await http.get(path)
            assert answer.json()["code"] == "storage_failed"
            assert "update this server" in answer.json()["detail"]
        assert (await http.post("/topics/a/messages", content="x")).status_code == 503


async def test_a_server_is_not_ready_while_it_reads_the_log_again_and_is_while_the_journal_is_away() -> None:
    log = SharedLog(time)
    journal = LocalJournal(log)
    async with served(journal) as http:
        await http.post("/topics/a/messages", content="kept")
        kept = log.number
        await http.post("/topics/a/messages", content="lost")

        async def is_connected() -> bool:
            return bool((await http.get("/server")).json()["journal"]["connected"])

        async def is_away() -> bool:
            return not await is_connected()

        journal.cut = True
        log.wake()
        await until(is_away)
        assert await states(http) == [200, 200]
        log.lose_after(kept)
        reading: list[bool] = []

        def on_open() -> None:
            """The journal is cut again as soon as the server has noticed the loss."""
            journal.cut = bool(reading)
            if any(entry.number > kept for entry in log.entries):
                reading.append(True)

        journal.on_open = on_open
        journal.cut = False

        async def reads_again() -> bool:
            return await states(http) == [200, 503]

        await until(reads_again)
        server = (await http.get("/server")).json()
        assert "read again after a loss" in server["unready"]
        journal.on_open = lambda: None
        journal.cut = False

        async def is_ready() -> bool:
            return await states(http) == [200, 200]

        await until(is_ready)
        stored = (await http.get("/topics/a/messages")).json()["messages"]
        assert [message["data"] for message in stored] == ["kept"]
