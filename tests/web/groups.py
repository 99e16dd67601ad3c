"""What tests of groups do over HTTP."""

import asyncio
import json
from typing import Any

import httpx

from tests.harness import DEADLINE


class Group:
    """One group of one topic."""

    def __init__(self, http: httpx.AsyncClient, topic: str, name: str = "g") -> None:
        self.http = http
        self.topic = topic
        self.path = f"/topics/{topic}/groups/{name}"

    async def publish(self, *bodies: str, **options: str) -> list[str]:
        """The ids, in this order."""
        answers = [
            await self.http.post(f"/topics/{self.topic}/messages", content=body, params=options) for body in bodies
        ]
        return [answer.raise_for_status().json()["id"] for answer in answers]

    async def pull(self, **options: str | int) -> list[dict[str, Any]]:
        answer = await self.http.post(f"{self.path}/pull", params=options)
        messages: list[dict[str, Any]] = answer.raise_for_status().json()["messages"]
        return messages

    async def settle(self, action: str, *ids: str, **options: str) -> dict[str, str]:
        """What became of each, also when every lease is over."""
        answer = await self.http.post(f"{self.path}/{action}", json={"ids": ids, **options})
        assert answer.status_code in {200, 409}, answer.text
        results: dict[str, str] = answer.json()["results"]
        return results

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = (await self.http.get(self.path)).raise_for_status().json()
        return state

    async def counters(self, *names: str) -> tuple[int, ...]:
        state = await self.state()
        return tuple(state[name] for name in names)

    async def until(self, name: str, value: int) -> None:
        """Wait until the group's state says so."""
        async with asyncio.timeout(DEADLINE):
            while (await self.state())[name] != value:
                pass


def data(messages: list[dict[str, Any]]) -> list[str]:
    return [message["data"] for message in messages]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def jobs(events: list[str]) -> list[tuple[str, int]]:
    return [(job["data"], job["attempt"]) for job in map(json.loads, events)]
