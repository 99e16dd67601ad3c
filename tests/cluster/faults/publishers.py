"""Publishers that go on at the next node when they get no answer or are refused."""

import asyncio
from itertools import count
from typing import Final

import httpx

from tests.cluster.faults.cluster import Cluster
from tests.harness import http_client
from tests.ledgers.cluster import ClusterLedger
from tests.line_client import Lines, lines

JOBS: Final = "load.jobs"
TOPICS: Final = ("load.a", "load.b", JOBS)
PAUSE: Final = 0.02  # seconds between two publishes of a client, or two attempts
NO_ANSWER: Final = 0
LIMITS: Final = httpx.Limits(keepalive_expiry=2)  # seconds: less than a server keeps an idle connection open
REFUSALS: Final = {"storage_failed": 503, "draining": 503, "outcome_unknown": 504, "log_full": 507}
LOST: Final = (OSError, EOFError, TimeoutError, httpx.TransportError)


class Publisher:
    """`at`: the number of the node that it begins with. `patience`: seconds for an answer."""

    def __init__(self, cluster: Cluster, ledger: ClusterLedger, name: str, at: int, patience: float) -> None:
        self.cluster, self.ledger, self.name, self.at, self.patience = cluster, ledger, name, at, patience
        self.over = asyncio.Event()

    async def run(self) -> None:
        raise NotImplementedError

    async def refused(self, status: int) -> None:
        self.ledger.refusals[status] += 1
        self.at += 1
        await asyncio.sleep(PAUSE)


class HttpPublisher(Publisher):
    """Repeats each publish with the same key until it is confirmed."""

    async def run(self) -> None:
        async with http_client(timeout=self.patience, limits=LIMITS) as http:
            for number in count():
                if self.over.is_set():
                    return
                await self.publish(http, f"{self.name} {number}", TOPICS[number % len(TOPICS)])
                await asyncio.sleep(PAUSE)

    async def publish(self, http: httpx.AsyncClient, body: str, topic: str) -> None:
        self.ledger.publish(body)
        while not await self._is_confirmed(http, body, topic):
            pass

    async def _is_confirmed(self, http: httpx.AsyncClient, body: str, topic: str) -> bool:
        url = self.cluster.at(self.at).server.url
        headers = {"Idempotency-Key": f'"{body}"'}
        try:
            answer = await http.post(f"{url}/topics/{topic}/messages", content=body, headers=headers)
        except httpx.TransportError:
            await self.refused(NO_ANSWER)
            return False
        if answer.is_success:
            self.ledger.confirm(body, answer.json()["id"])
            return True
        assert answer.status_code in REFUSALS.values(), answer.text
        await self.refused(answer.status_code)
        return False


class LinePublisher(Publisher):
    """The line port has no keys: what was refused is repeated, and what is unknown is not."""

    def __init__(self, cluster: Cluster, ledger: ClusterLedger, name: str, at: int, patience: float) -> None:
        super().__init__(cluster, ledger, name, at, patience)
        self._number = 0

    @property
    def _body(self) -> str:
        return f"{self.name} {self._number}"

    async def run(self) -> None:
        while not self.over.is_set():
            status = NO_ANSWER
            try:
                async with lines(self.cluster.at(self.at).server) as peer:
                    status = await self._publish_until_refused(peer)
            except LOST:
                pass
            self._number += self._body in self.ledger.unknown
            if not self.over.is_set():
                await self.refused(status)
        if self._body in self.ledger.sent.keys() - self.ledger.confirmed.keys():
            self.ledger.unknown.add(self._body)  # it was refused, and is not repeated

    async def _publish_until_refused(self, peer: Lines) -> int:
        while not self.over.is_set():
            self.ledger.publish(self._body)
            self.ledger.unknown.add(self._body)
            peer.send(f"pub {TOPICS[self._number % len(TOPICS)]} {self._body}")
            verb, word = await self._reply(peer)
            if verb == "ERR":
                if word != "outcome_unknown":
                    self.ledger.unknown.remove(self._body)
                return REFUSALS[word]
            assert verb == "OK", verb
            self.ledger.unknown.remove(self._body)
            self.ledger.confirm(self._body, word)
            self._number += 1
            await asyncio.sleep(PAUSE)
        return NO_ANSWER

    async def _reply(self, peer: Lines) -> tuple[str, str]:
        """Raises EOFError."""
        async with asyncio.timeout(self.patience):
            words = (await peer.next()).decode().split()
        if len(words) < 2:
            raise EOFError
        return words[0], words[1]
