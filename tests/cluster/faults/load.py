"""Publishers, subscribers and workers at all nodes, and what they have seen."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from tests.cluster.faults.cluster import NODES, Cluster
from tests.cluster.faults.publishers import TOPICS, HttpPublisher, LinePublisher, Publisher
from tests.cluster.faults.subscribers import END, LineSubscriber, StreamSubscriber, Subscriber
from tests.cluster.faults.workers import GROUP, LEASE, MOST, Worker
from tests.harness import DEADLINE, http_client
from tests.ledgers.cluster import ClusterLedger, Stored
from tests.ledgers.groups import GroupLedger

STEP: Final = 0.05  # seconds between two looks


class Load:
    def __init__(self, cluster: Cluster, patience: float) -> None:
        """`patience`: seconds until a client gives up an answer."""
        self.cluster, self.patience = cluster, patience
        self.ledger, self.jobs = ClusterLedger(), GroupLedger()
        self.publishers: list[Publisher] = []
        for n in range(NODES):
            self.publishers.append(HttpPublisher(cluster, self.ledger, f"http{n}", n, patience))
            self.publishers.append(LinePublisher(cluster, self.ledger, f"line{n}", n, patience))
        self.subscribers: list[Subscriber] = [
            *(StreamSubscriber(cluster, self.ledger, f"stream {n}", n) for n in range(NODES)),
            LineSubscriber(cluster, self.ledger, "lines", 0),
        ]
        self.ledger.readers += [subscriber.reader for subscriber in self.subscribers]
        self.workers = [Worker(cluster, self.jobs, f"worker {n}", n, patience) for n in range(NODES)]

    async def progress(self, more: int = 60) -> None:
        """So many more publishes are confirmed."""
        wanted = len(self.ledger.confirmed) + more
        await self.until(lambda: len(self.ledger.confirmed) >= wanted)

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(2 * DEADLINE):
            while not holds():  # noqa: ASYNC110  # of other processes
                await asyncio.sleep(STEP)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Behind it, everybody has got what was left."""
        async with http_client(self.cluster.at(0).server.url) as http:
            group = {"ack_timeout": f"{LEASE}s", "max_deliveries": MOST}
            (await http.put(GROUP, json=group)).raise_for_status()
        async with asyncio.TaskGroup() as tasks:
            publishers = [tasks.create_task(client.run()) for client in self.publishers]
            subscribers = [tasks.create_task(client.run()) for client in self.subscribers]
            workers = [tasks.create_task(client.run()) for client in self.workers]
            yield
            for client in self.publishers:
                client.over.set()
            async with asyncio.timeout(2 * DEADLINE):
                await asyncio.wait(publishers)
                await self._end()
                await asyncio.wait(subscribers)
                await self._until_all_is_done()
            for worker in workers:
                worker.cancel()

    async def _end(self) -> None:
        async with http_client(timeout=self.patience) as http:
            last = HttpPublisher(self.cluster, self.ledger, "end", 0, self.patience)
            await last.publish(http, END, TOPICS[0])

    async def _until_all_is_done(self) -> None:
        async with http_client(self.cluster.at(0).server.url) as http:
            while (await http.get(GROUP)).json()["lag"]:  # noqa: ASYNC110
                await asyncio.sleep(STEP)

    async def log(self) -> list[Stored]:
        """What all nodes have."""
        first, *others = [await self._log_of(n) for n in range(NODES)]
        assert all(log == first for log in others)
        return first

    async def _log_of(self, n: int) -> list[Stored]:
        subscriber = StreamSubscriber(self.cluster, ClusterLedger(), "log", n)
        await subscriber.read()
        return [entry for entry in subscriber.reader.entries if not isinstance(entry, str)]
