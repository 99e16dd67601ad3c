"""The whole of a soak's load: who reads, works and publishes, how often each acts, and how it ends."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import httpx

from tests.harness import ServerProcess, http_client
from tests.soak.book import Book
from tests.soak.readers import (
    Client,
    Consumer,
    LineReader,
    LineWorker,
    PageReader,
    PullRequest,
    StreamReader,
    StreamWorker,
)
from tests.soak.samples import Row, sample
from tests.soak.writers import HttpPublisher, come_and_go, publish_lines

TOPICS: Final = [f"soak.{letter}.{number}" for letter in "ab" for number in range(4)]
WORK: Final = "soak.work"
FOR_ONE: Final = "jobs.one"
KEPT: Final = httpx.Limits(keepalive_expiry=2)  # seconds: less than the server keeps a connection
SETTLE: Final = 120  # seconds at the end in which everybody gets what is under way: delays, leases, backoffs


class Load:
    """`async with Load(server, rate, churn) as load`: its clients are there and are ended with it."""

    def __init__(self, server: ServerProcess, rate: float, churn: float) -> None:
        """`rate`: publishes a second; `churn`: percent of the readers that are cut every ten seconds."""
        self.server = server
        self.book = Book()
        self.book.work = WORK
        self._rate = rate
        self._churn = churn
        self._clients: list[Client] = []
        self._running: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._http = await self._stack.enter_async_context(http_client(self.server.url, limits=KEPT))
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        await self._prepare()
        for client in self._people():
            self._start(client)
        async with asyncio.timeout(20):
            for client in self._clients:
                await client.ready.wait()
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in self._running:
            task.cancel()
        await self._stack.__aexit__(*error)

    async def _prepare(self) -> None:
        for group in ("pullers", "streams", "lines"):
            (await self._http.put(f"/topics/{WORK}/groups/{group}", json={"ack_timeout": "5s"})).raise_for_status()

    def _people(self) -> list[Client]:
        about = self.server, self.book
        streams: list[Client] = [
            StreamReader(*about, f"raw {topic} {n}", f"/topics/{topic}/stream?format=raw", topic)
            for topic in TOPICS
            for n in range(2)
        ]
        streams += [StreamReader(*about, f"** {n}", "/topics/soak.**/stream", "soak.**") for n in range(2)]
        streams += [
            StreamReader(*about, f"a.* {n}", "/topics/soak.a.*/stream?format=json", "soak.a.*") for n in range(2)
        ]
        three = TOPICS[1], TOPICS[5], "soak.b.*"
        several = "/stream?" + "&".join(f"topic={topic}" for topic in three)
        streams += [StreamReader(*about, f"several {n}", several, *three) for n in range(2)]
        lines = [LineReader(*about, topic, dialect) for topic in TOPICS[:3] for dialect in ("words", "json", "literal")]
        pages = [PageReader(*about, topic) for topic in TOPICS[3:5]]
        readers = [*streams, *lines, *pages]
        self.book.readers = [client.reader for client in readers]  # type: ignore[attr-defined]
        takers = [Consumer(*about, FOR_ONE) for _ in range(2)]
        self.book.takers = [taker.reader for taker in takers]
        workers = [
            *(PullRequest(*about, "pullers") for _ in range(2)),
            *(StreamWorker(*about, "streams") for _ in range(2)),
            *(LineWorker(*about, "lines") for _ in range(2)),
        ]
        self._mortal = [*streams, *lines, *workers]
        return [*readers, *takers, *workers]

    def _start(self, client: Client) -> None:
        self._clients.append(client)
        self._running.append(self._tasks.create_task(client.run()))

    async def run(self, seconds: float, every: float) -> list[Row]:
        """Load for so long; what was sampled. It returns when everything has arrived, or should have."""
        begun = time.monotonic()
        chores = [
            self._tasks.create_task(chore)
            for chore in (
                self._publish(),
                publish_lines(self.server, self.book, TOPICS, self._pause(self._rate / 3)),
                come_and_go(self.server, self._http, self._pause(0.5)),
                self._cut(),
            )
        ]
        rows = []
        while (now := time.monotonic() - begun) < seconds:
            rows.append(await sample(self.server, self._http, now))
            await asyncio.sleep(every - (time.monotonic() - begun) % every)
        for chore in chores:
            chore.cancel()
        await self._settle()
        return rows

    async def _publish(self) -> None:
        publisher = HttpPublisher(self._http, self.book)
        pause = self._pause(self._rate * 2 / 3)
        while True:
            await pause()
            if random.random() < 0.15:
                await publisher.for_one(FOR_ONE)
            elif random.random() < 0.15:
                await random.choice([publisher.plainly, publisher.in_a_batch, publisher.later])(WORK)
            else:
                await publisher.publish(random.choice(TOPICS))

    async def _cut(self) -> None:
        """Each ten seconds the same part of those who come back."""
        pause = self._pause(len(self._mortal) * self._churn / 100 / 10)
        while True:
            await pause()
            random.choice(self._mortal).cut()

    @staticmethod
    def _pause(rate: float) -> Callable[[], Awaitable[Any]]:
        """So often a second, at random."""
        return lambda: asyncio.sleep(random.expovariate(rate))

    async def _settle(self) -> None:
        for _ in range(SETTLE):
            if not self.book.check():
                break
            await asyncio.sleep(1)
