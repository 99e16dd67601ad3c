"""The load of a soak: which clients there are, how often each of them acts, and how the load ends."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import httpx

from tests.harness import ServerProcess, http_client
from tests.soak.client import Client
from tests.soak.consumers import LineConsumer, PullConsumer, StreamConsumer
from tests.soak.ledger import SoakLedger
from tests.soak.publishers import HttpPublisher, publish_lines
from tests.soak.samples import Row, sample
from tests.soak.short_lived import connect_and_leave
from tests.soak.subscribers import LineSubscriber, LongPollSubscriber, StreamSubscriber

TOPICS: Final = [f"soak.{letter}.{number}" for letter in "ab" for number in range(4)]
WORK: Final = "soak.work"
FOR_ONE: Final = "jobs.one"
LIMITS: Final = httpx.Limits(keepalive_expiry=2)  # seconds: less than the server keeps an idle connection open
SETTLE_SECONDS: Final = 120  # at the end, in which delays, leases and backoffs end and everything arrives


class Load:
    """`async with Load(server, rate, churn) as load`: its clients are connected, and are stopped at the end."""

    def __init__(self, server: ServerProcess, rate: float, churn: float) -> None:
        """`rate`: publishes a second. `churn`: percent of the clients that are disconnected every ten seconds."""
        self.server = server
        self.ledger = SoakLedger()
        self.ledger.work_topic = WORK
        self._rate = rate
        self._churn = churn
        self._clients: list[Client] = []
        self._running: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._http = await self._stack.enter_async_context(http_client(self.server.url, limits=LIMITS))
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        await self._create_topics()
        for client in self._make_clients():
            self._start(client)
        async with asyncio.timeout(20):
            for client in self._clients:
                await client.ready.wait()
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in self._running:
            task.cancel()
        await self._stack.__aexit__(*error)

    async def _create_topics(self) -> None:
        for topic in TOPICS:  # a page of a topic that does not exist is answered 404
            (await self._http.put(f"/topics/{topic}", json={})).raise_for_status()
        for group in ("pullers", "streams", "lines"):
            (await self._http.put(f"/topics/{WORK}/groups/{group}", json={"ack_timeout": "5s"})).raise_for_status()

    def _make_clients(self) -> list[Client]:
        common = self.server, self.ledger
        streams = self._make_streams()
        dialects = "text", "json", "literal"
        lines = [LineSubscriber(*common, topic, dialect) for topic in TOPICS[:3] for dialect in dialects]
        polls = [LongPollSubscriber(*common, topic) for topic in TOPICS[3:5]]
        self.ledger.subscribers = [client.record for client in (*streams, *lines, *polls)]
        one_subscribers = [LineSubscriber(*common, FOR_ONE, "json") for _ in range(2)]
        self.ledger.one_subscribers = [client.record for client in one_subscribers]
        consumers: list[Client] = [
            *(PullConsumer(*common, "pullers") for _ in range(2)),
            *(StreamConsumer(*common, "streams") for _ in range(2)),
            *(LineConsumer(*common, "lines") for _ in range(2)),
        ]
        self._disconnected: list[Client] = [*streams, *lines, *consumers]
        return [*streams, *lines, *polls, *one_subscribers, *consumers]

    def _make_streams(self) -> list[StreamSubscriber]:
        three = TOPICS[1], TOPICS[5], "soak.b.*"
        several = "/stream?" + "&".join(f"topic={topic}" for topic in three)
        paths: list[tuple[str, str, tuple[str, ...]]] = [
            *((f"raw {topic}", f"/topics/{topic}/stream?format=raw", (topic,)) for topic in TOPICS),
            ("**", "/topics/soak.**/stream", ("soak.**",)),
            ("a.*", "/topics/soak.a.*/stream?format=json", ("soak.a.*",)),
            ("several", several, three),
        ]
        return [
            StreamSubscriber(self.server, self.ledger, f"{name} {n}", path, *topics)
            for name, path, topics in paths
            for n in range(2)
        ]

    def _start(self, client: Client) -> None:
        self._clients.append(client)
        self._running.append(self._tasks.create_task(client.run()))

    async def run(self, seconds: float, every: float) -> list[Row]:
        """Run the load, and sample the server `every` so many seconds. Returns the samples once everything arrived."""
        begin = time.monotonic()
        activities = [
            self._tasks.create_task(activity)
            for activity in (
                self._publish(),
                publish_lines(self.server, self.ledger, TOPICS, self._random_pause(self._rate / 3)),
                connect_and_leave(self.server, self._http, self._random_pause(0.5)),
                self._disconnect_some(),
            )
        ]
        rows = []
        while (elapsed := time.monotonic() - begin) < seconds:
            rows.append(await sample(self.server, self._http, elapsed))
            await asyncio.sleep(every - (time.monotonic() - begin) % every)
        for activity in activities:
            activity.cancel()
        await self._settle()
        return rows

    async def _publish(self) -> None:
        publisher = HttpPublisher(self._http, self.ledger)
        pause = self._random_pause(self._rate * 2 / 3)
        while True:
            await pause()
            if random.random() < 0.15:
                await publisher.delivery_one(FOR_ONE)
            elif random.random() < 0.15:
                await random.choice([publisher.plain, publisher.batch, publisher.delayed])(WORK)
            else:
                await publisher.publish(random.choice(TOPICS))

    async def _disconnect_some(self) -> None:
        pause = self._random_pause(len(self._disconnected) * self._churn / 100 / 10)
        while True:
            await pause()
            random.choice(self._disconnected).disconnect()

    @staticmethod
    def _random_pause(rate: float) -> Callable[[], Awaitable[Any]]:
        """Pauses of random length, `rate` of them a second on average."""
        return lambda: asyncio.sleep(random.expovariate(rate))

    async def _settle(self) -> None:
        for _ in range(SETTLE_SECONDS):
            if not self.ledger.check():
                break
            await asyncio.sleep(1)
