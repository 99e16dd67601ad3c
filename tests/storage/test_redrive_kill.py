"""A redrive while consumers work, with kill -9 in the middle: no dead message is lost, and none returns twice."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.harness import ServerProcess, http_client, start_server
from tests.storage.killed_server import Victim

GROUP: Final = "/topics/jobs/groups/g"
WORKERS: Final = 3


class Client:
    """Asks whichever server there is, until it answers."""

    def __init__(self, victim: "Victim | Survivor", http: httpx.AsyncClient) -> None:
        self._victim = victim
        self._http = http

    async def ask(self, method: str, path: str, **request: Any) -> Any:
        while True:
            server = await self._victim.server()
            try:
                answer = await self._http.request(method, server.url + path, **request)
            except httpx.TransportError:
                continue
            finally:
                self._victim.answered()
            return answer.json()


async def give_up(client: Client, count: int) -> dict[str, str]:
    """So many dead messages: the id and the body of each."""
    await client.ask("PUT", GROUP, json={"max_deliveries": 1})
    bodies = "\n".join(map(str, range(count)))
    await client.ask("POST", "/topics/jobs/messages", content=bodies, headers={"Content-Type": "application/x-ndjson"})
    dead_lettered: dict[str, str] = {}
    while jobs := (await client.ask("POST", f"{GROUP}/pull?max=100&lease=1h"))["messages"]:
        dead_lettered |= {job["id"]: job["data"] for job in jobs}
        await client.ask("POST", f"{GROUP}/nack", json={"ids": [job["lease"] for job in jobs]})
    await client.ask(
        "PUT", GROUP, json={"max_deliveries": 1_000}
    )  # a lease that a kill cuts short shall not give_up it
    return dead_lettered


async def work(client: Client, returned: dict[str, set[str]], bodies: dict[str, str], over: asyncio.Event) -> None:
    """Ack what has returned, and write down as what."""
    while not over.is_set():
        jobs = (await client.ask("POST", f"{GROUP}/pull?max=100&wait=100ms&lease=1s"))["messages"]
        for job in jobs:
            returned[job["original"]].add(job["id"])
            bodies[job["original"]] = job["data"]
        if jobs:
            await client.ask("POST", f"{GROUP}/ack", json={"ids": [job["lease"] for job in jobs]})


async def redrive(client: Client, dice: random.Random) -> None:
    """In parts of any size, until none is left; each is repeated when nobody knows whether it was done."""
    query = "topic=jobs&group=g&state=dead&limit=1000"
    while dead := (await client.ask("GET", f"/jobs?{query}"))["jobs"]:
        ids = [job["id"] for job in dead[: dice.randint(1, 200)]]
        body = {"all": True} if dice.random() < 0.1 else {"ids": ids}
        await client.ask("POST", f"{GROUP}/redrive", json=body)


class Survivor:
    """A server that nobody kills."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process

    async def server(self) -> ServerProcess:
        return self._process

    def answered(self) -> None:
        pass


async def check_redrive(
    client: Client, count: int, dice: random.Random, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """Redrive so many dead messages while consumers work, and compare what they got with what died."""
    returned, bodies, over = defaultdict[str, set[str]](set), dict[str, str](), asyncio.Event()
    await client.ask("PUT", "/topics/jobs.dead", json={"max_messages": count})
    dead_lettered = await give_up(client, count)
    async with asyncio.TaskGroup() as tasks:
        redriving = tasks.create_task(redrive(client, dice))
        for _ in range(WORKERS):
            tasks.create_task(work(client, returned, bodies, over))
        await meanwhile()
        await redriving
        while (state := await client.ask("GET", GROUP))["lag"]:
            pass
        over.set()
    topic = await client.ask("GET", "/topics/jobs")
    assert (await client.ask("GET", "/jobs?topic=jobs&group=g&state=dead"))["jobs"] == []
    assert bodies == dead_lettered
    assert {len(ids) for ids in returned.values()} == {1}
    assert (state["dead_total"], topic["messages"]) == (count, count)
    assert state["acked"] >= count


@pytest.mark.parametrize(("kills", "count"), [(3, 500), pytest.param(10, 10_000, marks=pytest.mark.slow)])
async def test_killed_in_the_middle_each_dead_message_returns_exactly_once(
    kills: int, count: int, tmp_path: Path
) -> None:
    dice = random.Random(22)
    async with Victim(tmp_path / "log.db", dice) as victim, http_client() as http:
        die = partial(victim.die, kills, answers=max(count // kills // 20, 2))
        await check_redrive(Client(victim, http), count, dice, die)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_in_memory_each_dead_message_returns_exactly_once_while_consumers_work(count: int) -> None:
    with start_server("--max-messages", str(2 * count), tcp_port=0) as process:
        async with http_client() as http:
            await check_redrive(Client(Survivor(process), http), count, random.Random(22), partial(asyncio.sleep, 0))
