"""Workers of a group. Each goes on at the next node when it gets no answer or is refused."""

import asyncio
from datetime import datetime
from typing import Any, Final

import httpx

from tests.cluster.faults.cluster import Cluster
from tests.cluster.faults.publishers import JOBS, PAUSE, REFUSALS
from tests.harness import http_client
from tests.ledgers.groups import GroupLedger, ReceivedLease

LEASE: Final = 2.0  # seconds
PULL: Final = 5  # leases
MOST: Final = 100  # deliveries: no job dies of a fault
GROUP: Final = f"/topics/{JOBS}/groups/g"


class Refused(Exception):
    """Nothing was done."""


class Unknown(Exception):
    """It was done, or not."""


class Worker:
    """Pulls and acks. What got no answer is repeated."""

    def __init__(self, cluster: Cluster, ledger: GroupLedger, name: str, at: int, patience: float) -> None:
        self.cluster, self.ledger, self.name, self.at, self.patience = cluster, ledger, name, at, patience
        self._held: list[ReceivedLease] = []

    async def run(self) -> None:
        async with http_client(timeout=self.patience) as http:
            while True:
                try:
                    await (self._ack(http) if self._held else self._pull(http))
                except (Refused, Unknown):
                    self.at += 1
                    await asyncio.sleep(PAUSE)

    async def _ask(self, http: httpx.AsyncClient, verb: str, **request: Any) -> Any:
        try:
            answer = await http.post(f"{self.cluster.at(self.at).server.url}{GROUP}/{verb}", **request)
        except httpx.TransportError:
            raise Unknown from None
        if answer.status_code in REFUSALS.values():
            raise Unknown if answer.status_code == 504 else Refused
        assert answer.status_code in {200, 409}, answer.text
        return answer.json()

    async def _pull(self, http: httpx.AsyncClient) -> None:
        try:
            page = await self._ask(http, "pull", params={"max": PULL, "wait": "500ms"})
        except Unknown:
            self.ledger.unreceived += PULL
            raise
        for record in page["messages"]:
            end = datetime.fromisoformat(record["lease_expires"]).timestamp()
            lease = ReceivedLease(record["id"], record["attempt"], record["data"], self.name, end - LEASE, end)
            self._held.append(lease)
            self.ledger.leased(lease)

    async def _ack(self, http: httpx.AsyncClient) -> None:
        results = (await self._ask(http, "ack", json={"ids": [lease.lease_id for lease in self._held]}))["results"]
        for lease in self._held:
            self.ledger.settled("ack", lease, results[lease.lease_id])
        self._held.clear()
