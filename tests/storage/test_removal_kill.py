"""kill -9 in the middle of purges and of cancelling: what was removed stays away, and nothing else is gone."""

import asyncio
import random
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import http_client
from tests.storage.killed_server import Victim


class Operator:
    """Waits for each answer. A request without one is repeated."""

    def __init__(self, victim: Victim, http: httpx.AsyncClient, dice: random.Random) -> None:
        self.dice = dice
        self.repeated = 0
        self._victim = victim
        self._http = http
        self._numbers = count()

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        while True:
            server = await self._victim.server()
            try:
                return await self._http.request(method, server.url + path, **request)
            except httpx.TransportError:
                self.repeated += 1
            finally:
                self._victim.answered()

    async def publish(self, path: str) -> dict[str, Any]:
        number = next(self._numbers)
        answer = await self.ask("POST", path, content=f"{number}", headers={"Idempotency-Key": f"{path} {number}"})
        record: dict[str, Any] = answer.raise_for_status().json()
        return record


async def purge(operator: Operator, over: asyncio.Event) -> list[str]:
    """Returns the ids of the messages that were published after the last purge, or are not before its position."""
    left: list[str] = []
    while not over.is_set():
        left += [(await operator.publish("/topics/purged/messages"))["id"] for _ in range(operator.dice.randint(1, 20))]
        kept = operator.dice.choice([0, 0, operator.dice.randint(1, len(left))])
        before = {"before": left[-kept]} if kept else {}
        (await operator.ask("POST", "/topics/purged/purge", params=before)).raise_for_status()
        left = left[-kept:] if kept else []
    return left


async def cancel(operator: Operator, over: asyncio.Event) -> set[str]:
    """Returns the ids of what is scheduled and was not cancelled."""
    scheduled: set[str] = set()
    while not over.is_set():
        scheduled.add((await operator.publish("/topics/later/messages?delay=1h"))["id"])
        if len(scheduled) > 500 or operator.dice.random() < 0.7:
            id = operator.dice.choice(sorted(scheduled))
            before = operator.repeated
            answer = await operator.ask("DELETE", f"/scheduled/{id}")
            assert answer.status_code == 204 or (answer.status_code == 404 and operator.repeated > before)
            scheduled.discard(id)
    return scheduled


async def listed(operator: Operator, path: str, items: str) -> list[dict[str, Any]]:
    page = (await operator.ask("GET", path)).raise_for_status().json()
    records: list[dict[str, Any]] = page[items]
    assert len(records) < 1_000  # there is no other page
    return records


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
async def test_killed_in_the_middle_what_was_removed_stays_away_and_nothing_else(kills: int, tmp_path: Path) -> None:
    over = asyncio.Event()
    async with Victim(tmp_path / "log.db", random.Random(23)) as victim, http_client() as http:
        operators = [Operator(victim, http, random.Random(seed)) for seed in (1, 2)]
        async with asyncio.TaskGroup() as tasks:
            purging = tasks.create_task(purge(operators[0], over))
            cancelling = tasks.create_task(cancel(operators[1], over))
            await victim.die(kills, answers=100)
            over.set()
        left, scheduled = purging.result(), cancelling.result()
        messages = await listed(operators[0], "/topics/purged/messages?limit=1000", "messages")
        waiting = {record["id"] for record in await listed(operators[1], "/scheduled?limit=1000", "scheduled")}
        state = (await operators[0].ask("GET", "/topics/purged")).json()
        assert await victim.stop() == 0
    assert [message["id"] for message in messages] == left
    assert waiting == scheduled
    assert state["messages"] == len(left)
    assert sum(operator.repeated for operator in operators) > 0
