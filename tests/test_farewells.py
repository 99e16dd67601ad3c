"""Those who are sent away: not all at once, and not to come back all at once."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from app.farewells import Farewells
from app.frames import retry_delay
from tests.harness import DEADLINE, start_server, stream

pytestmark = pytest.mark.anyio


class Loop:
    """Keeps what is to be called later, until the test lets time pass."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, call: Callable[[], None]) -> None:
        self.later.append(call)


def steps(count: int, spread: float) -> list[int]:
    """How many have been sent away after each step."""
    loop, said = Loop(), []
    farewells = Farewells(cast(Any, loop))
    farewells.begin([lambda: said.append(1) for _ in range(count)], spread)
    seen = [len(said)]
    while loop.later:
        loop.later.pop()()
        seen.append(len(said))
    return seen


def test_a_few_end_at_once() -> None:
    assert steps(0, 10) == [0]
    assert steps(100, 10) == [100]


def test_many_end_at_a_thousand_a_second() -> None:
    assert steps(1_000, 10) == [100 * n for n in range(1, 11)]


def test_very_many_end_within_the_time() -> None:
    seen = steps(100_000, 10)
    assert (len(seen), seen[0], seen[-1]) == (100, 1_000, 100_000)
    assert len(steps(100_000, 1)) == 10


def test_without_a_time_all_end_at_once() -> None:
    assert steps(100_000, 0) == [100_000]


async def test_what_is_left_can_be_said_at_once_and_who_waits_is_told() -> None:
    said: list[int] = []
    farewells = Farewells(asyncio.get_running_loop())
    farewells.begin([lambda: said.append(1)] * 1_000, 3_600)
    waiting = asyncio.ensure_future(farewells.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    farewells.finish()
    async with asyncio.timeout(DEADLINE):
        await waiting
    assert len(said) == 1_000
    farewells.finish()


@pytest.mark.parametrize(("pressure", "latest"), [(0.0, 5_000), (0.5, 17_500), (1.0, 30_000)])
def test_readers_come_back_within_5_seconds_and_within_30_under_pressure(pressure: float, latest: int) -> None:
    delays = [retry_delay(pressure) for _ in range(2_000)]
    assert 1_000 <= min(delays) < 1_500
    assert 0.9 * latest < max(delays) <= latest


async def test_a_server_without_a_place_asks_to_come_back_later() -> None:
    with start_server("--max-subscribers", "1", tcp_port=0) as server:
        async with stream(server, "/topics/foo/stream"), httpx.AsyncClient(base_url=server.url) as http:
            headers = {"Accept": "text/event-stream"}
            answers = [(await http.get("/topics/foo/stream", headers=headers)).text for _ in range(30)]
    delays = [int(delay) for answer in answers for delay in re.findall(r"^retry: (\d+)$", answer, re.MULTILINE)]
    assert len(delays) == 30
    assert all("event: busy\n" in answer for answer in answers)
    assert max(delays) > 5_000
