"""kill -9 in the middle of everything, a start on the same file, and what was unknown is repeated with the same key.

Publishers, subscribers and workers write down what they were told (tests/storage/crash_ledger.py,
tests/ledgers/groups.py); when all is over the ledgers are compared with each other and with the file.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.messages.topic import TopicFilter
from tests.event_stream import stream
from tests.harness import ServerProcess, http_client
from tests.ledgers.groups import GroupLedger, ReceivedLease
from tests.ledgers.subscribers import GAP
from tests.storage.crash_ledger import CrashLedger, Entry, Publish
from tests.storage.killed_server import Victim

PUBLISHERS: Final = 8
WORKERS: Final = 4
TOPICS: Final = ["k.a", "k.b", "k.c"]
FILTERS: Final = [["k.a"], ["k.*"], ["k.a", "k.c"]]
BATCH: Final = 3  # messages of every fifth publish
END: Final = "end"  # the last body of each topic
JOBS: Final = "jobs"
LEASE: Final = 1.0  # seconds
PULL: Final = 5  # leases
MOST: Final = 3  # deliveries


async def post(victim: Victim, ledger: CrashLedger, http: httpx.AsyncClient, publish: Publish) -> None:
    """Until it is confirmed, always with the same key."""
    ledger.sent.append(publish)
    kind = "application/x-ndjson" if len(publish.bodies) > 1 else "text/plain"
    headers = {"Idempotency-Key": publish.key, "Content-Type": kind}
    while True:
        server = await victim.server()
        path = f"{server.url}/topics/{publish.topic}/messages"
        try:
            answer = await http.post(path, content="\n".join(publish.bodies), headers=headers)
        except httpx.TransportError:
            ledger.unknown += 1
            continue
        finally:
            victim.answered()
        ledger.statuses[answer.status_code] += 1
        if answer.is_success:
            ledger.told[publish.key].add((answer.json()["id"], answer.json()["index"]))
            return


async def publish(victim: Victim, ledger: CrashLedger, name: str, topics: list[str], over: asyncio.Event) -> None:
    async with http_client() as http:
        for number in count():
            if over.is_set():
                return
            topic = topics[number % len(topics)]
            body = f"{topic} {name} {number} "
            bodies = (
                [body + str(n) for n in range(BATCH)] if number % 5 == 4 else [body + "0" * (number % 3 * 4_000 + 1)]
            )
            await post(victim, ledger, http, Publish(name, number, topic, bodies))


async def read(victim: Victim, topic_filter: TopicFilter, entries: list[Entry]) -> None:
    """From the beginning, over all restarts, to the END of each topic."""
    query = "&".join(f"topic={name}" for name in (*topic_filter.topics, *topic_filter.patterns))
    ends, place = sum(map(topic_filter.matches, TOPICS)), ""
    while ends:
        server = await victim.server()
        with suppress(OSError, EOFError):
            async with stream(server, f"/stream?format=raw&since=earliest&{query}", Last_Event_ID=place) as events:
                while ends and (event := await events.next()):
                    if event.type == "gap":
                        entries.append(GAP)
                        continue
                    place = event.last_event_id
                    entries.append((int(place.split("-")[1]), event.data.split(" ")[0], event.data))
                    ends -= event.data.endswith(END)


async def kill_under_load(path: Path, kills: int) -> CrashLedger:
    ledger, over = CrashLedger(), asyncio.Event()
    async with Victim(path, random.Random(20)) as victim, asyncio.TaskGroup() as readers:
        for names in FILTERS:
            ledger.read.append((TopicFilter(names), []))
            readers.create_task(read(victim, *ledger.read[-1]))
        async with asyncio.TaskGroup() as publishers:
            for n in range(PUBLISHERS):
                publishers.create_task(publish(victim, ledger, f"p{n}", TOPICS, over))
            await victim.die(kills)
            for _ in range(10 * kills):  # on a busy machine all answers may have come before a kill
                if ledger.unknown < kills:
                    await victim.die(1)
            over.set()
        async with http_client() as http:
            for topic in TOPICS:
                await post(victim, ledger, http, Publish(END, TOPICS.index(topic), topic, [f"{topic} {END}"]))
    return ledger


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
async def test_killed_under_load_nothing_is_lost_doubled_forged_or_out_of_order(kills: int, tmp_path: Path) -> None:
    ledger = await kill_under_load(tmp_path / "log.db", kills)
    print(
        f"{kills} kills: {len(ledger.sent)} publishes, {ledger.unknown} without an answer, "
        f"{ledger.statuses[200]} of them had been stored; read {[len(entries) for _, entries in ledger.read]}"
    )
    assert ledger.faults(tmp_path / "log.db") == {}
    assert ledger.unknown >= kills


def is_poison(lease: ReceivedLease) -> bool:
    """Nobody can do what the body says: every tenth."""
    return int(lease.body.split(" ")[2]) % 10 == 7


class PushConsumer:
    """Pulls, acks what it can do and nacks what it cannot; what got no answer is repeated."""

    def __init__(self, victim: Victim, ledger: GroupLedger, name: str) -> None:
        self.victim = victim
        self.ledger = ledger
        self.name = name
        self.held: list[ReceivedLease] = []

    async def work(self) -> None:
        async with http_client() as http:
            while True:
                with suppress(httpx.TransportError):
                    await (self.settle(http) if self.held else self.pull(http))

    async def ask(self, http: httpx.AsyncClient, verb: str, **request: Any) -> Any:
        server = await self.victim.server()
        answer = await http.post(f"{server.url}/topics/{JOBS}/groups/g/{verb}", **request)
        self.victim.answered()
        assert answer.status_code in {200, 409}, answer.text
        return answer.json()

    async def pull(self, http: httpx.AsyncClient) -> None:
        try:
            page = await self.ask(http, "pull", params={"max": PULL, "wait": "500ms"})
        except httpx.TransportError:
            self.ledger.unreceived += PULL
            raise
        for record in page["messages"]:
            end = datetime.fromisoformat(record["lease_expires"]).timestamp()
            self.held.append(
                ReceivedLease(record["id"], record["attempt"], record["data"], self.name, end - LEASE, end)
            )
            self.ledger.leased(self.held[-1])

    async def settle(self, http: httpx.AsyncClient) -> None:
        poison = is_poison(self.held[0])
        leases = [lease for lease in self.held if is_poison(lease) == poison]
        action = "nack" if poison else "ack"
        if poison:
            self.ledger.ended(leases)
        results = (await self.ask(http, action, json={"ids": [lease.lease_id for lease in leases]}))["results"]
        for lease in leases:
            self.ledger.settled(action, lease, results[lease.lease_id])
            self.held.remove(lease)


@asynccontextmanager
async def working(victim: Victim, ledger: GroupLedger) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        workers = [tasks.create_task(PushConsumer(victim, ledger, f"w{n}").work()) for n in range(WORKERS)]
        yield
        for worker in workers:
            worker.cancel()


async def finish(server: ServerProcess, ledger: GroupLedger) -> None:
    """Until nothing is left to do; and who is dead."""
    async with (
        http_client(server.url) as http,
        stream(server, f"/topics/{JOBS}.dead/stream?since=earliest&format=json") as letters,
        asyncio.timeout(60),
    ):
        while (group := (await http.get(f"/topics/{JOBS}/groups/g")).json())["lag"]:
            await http.get(f"/topics/{JOBS}.dead/messages", params={"since": "latest", "wait": "200ms"})
        for letter in await letters.take(group["dead"]):
            record = json.loads(letter.data)
            ledger.dead_lettered(record["dead"], record["data"])


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
async def test_killed_under_a_group_what_was_acked_stays_acked_and_nothing_is_lost(kills: int, tmp_path: Path) -> None:
    publishes, ledger, over = CrashLedger(), GroupLedger(), asyncio.Event()
    async with Victim(tmp_path / "log.db", random.Random(21)) as victim:
        async with http_client((await victim.server()).url) as http:
            group = {"ack_timeout": f"{LEASE}s", "max_deliveries": MOST}
            (await http.put(f"/topics/{JOBS}/groups/g", json=group)).raise_for_status()
        async with working(victim, ledger):
            async with asyncio.TaskGroup() as publishers:
                for n in range(2):
                    publishers.create_task(publish(victim, publishes, f"p{n}", [JOBS], over))
                await victim.die(kills, answers=100)
                over.set()
            await finish(await victim.server(), ledger)
        assert await victim.stop() == 0
    print(f"{kills} kills: {len(ledger.leases)} leases, {len(ledger.dead)} dead, {dict(ledger.outcomes)}")
    assert publishes.faults(tmp_path / "log.db") == {}
    assert ledger.check({body for publish in publishes.sent for body in publish.bodies}, MOST) == {}
