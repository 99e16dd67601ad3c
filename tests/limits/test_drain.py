"""Draining: subscribers are ended in steps, and are asked to reconnect at different times."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

import pytest

from app.broker.broker import Broker
from app.errors import Draining
from app.limits.drain import DrainSchedule
from app.log.topic_log import Limits
from app.messages.message import Receipt
from app.messages.position import LATEST
from app.messages.topic import TopicFilter
from app.net.progress import Progress
from app.storage.engine import Engine
from app.web.sse import SSE_RAW, retry_delay
from tests.engines.conftest import ENGINES, Clock
from tests.event_stream import SseParser, stream
from tests.harness import DEADLINE, draft, http_client, start_server


class Loop:
    """An event loop that stores its timers until the test lets time pass."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, call: Callable[[], None]) -> None:
        self.later.append(call)


def steps(count: int, spread: float) -> list[int]:
    """How many have been ended after each step."""
    loop, ended = Loop(), []
    drain_schedule = DrainSchedule(cast(Any, loop))
    drain_schedule.begin([lambda: ended.append(1) for _ in range(count)], spread)
    seen = [len(ended)]
    while loop.later:
        loop.later.pop()()
        seen.append(len(ended))
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


async def test_the_rest_can_be_ended_at_once_and_a_waiter_learns_of_it() -> None:
    ended: list[int] = []
    drain_schedule = DrainSchedule(asyncio.get_running_loop())
    drain_schedule.begin([lambda: ended.append(1)] * 1_000, 3_600)
    waiting = asyncio.ensure_future(drain_schedule.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    drain_schedule.finish()
    async with asyncio.timeout(DEADLINE):
        await waiting
    assert len(ended) == 1_000
    drain_schedule.finish()


class Subscriber:
    """A sink: what it was written, and its end."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.positioned = asyncio.Event()  # it has received its position
        self.ended = asyncio.Event()
        self._parser = SseParser()

    def write(self, data: bytes) -> None:
        self.got += [event.data for event in self._parser.feed(data) if event.type != "place"]
        if self._parser.last_event_id:
            self.positioned.set()

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return Progress(0, 0)

    def end(self, reason: str) -> None:
        self.got.append(reason)
        self.ended.set()

    def abort(self) -> None:
        raise AssertionError("nobody stalls here")


@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
async def test_messages_accepted_before_the_stop_reach_every_subscriber_before_its_end(
    make: Callable[[Limits, Clock], Engine],
) -> None:
    subscribers = [Subscriber() for _ in range(150)]  # more than end at once
    async with asyncio.timeout(DEADLINE), Broker(make(Limits(), Clock())) as broker:
        for subscriber in subscribers:
            broker.subscribe(TopicFilter(["foo"]), SSE_RAW, subscriber).start(LATEST)
        await asyncio.gather(*(subscriber.positioned.wait() for subscriber in subscribers))
        accepted = [broker.publish([draft("foo", body)]) for body in (b"first", b"second")]
        broker.drain(10)
        with pytest.raises(Draining):
            broker.publish([draft("foo", b"third")])
        receipts = [await future for future in accepted]
        await asyncio.gather(*(subscriber.ended.wait() for subscriber in subscribers))
    assert [receipt.subscribers for receipt in receipts if isinstance(receipt, Receipt)] == [150, 150]
    assert [subscriber.got for subscriber in subscribers] == [["first", "second", "draining"]] * 150


@pytest.mark.parametrize("fails", [False, True])
async def test_the_ends_wait_for_what_comes_before_however_it_goes(fails: bool) -> None:
    ended: list[int] = []
    drain_schedule = DrainSchedule(asyncio.get_running_loop())
    before: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    drain_schedule.begin([lambda: ended.append(1)] * 1_000, 3_600, before)
    await asyncio.sleep(0)
    assert not ended
    if fails:
        before.set_exception(ValueError("the disk is gone"))
    else:
        before.set_result(None)
    await asyncio.sleep(0)
    assert len(ended) == 100
    drain_schedule.finish()
    assert len(ended) == 1_000


async def test_the_ends_do_not_wait_for_ever() -> None:
    ended: list[int] = []
    drain_schedule = DrainSchedule(asyncio.get_running_loop())
    before: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    drain_schedule.begin([lambda: ended.append(1)] * 1_000, 0.2, before)
    async with asyncio.timeout(DEADLINE):
        await drain_schedule.wait()
    assert len(ended) == 1_000
    before.set_result(None)
    await asyncio.sleep(0)
    assert len(ended) == 1_000


@pytest.mark.parametrize(("pressure", "latest"), [(0.0, 5_000), (0.5, 17_500), (1.0, 30_000)])
def test_subscribers_reconnect_within_5_seconds_and_within_30_under_pressure(pressure: float, latest: int) -> None:
    delays = [retry_delay(pressure) for _ in range(2_000)]
    assert 1_000 <= min(delays) < 1_500
    assert 0.9 * latest < max(delays) <= latest


async def test_a_server_without_a_place_asks_to_come_back_later() -> None:
    with start_server("--max-subscribers", "1", tcp_port=0) as server:
        async with stream(server, "/topics/foo/stream"), http_client(server.url) as http:
            headers = {"Accept": "text/event-stream"}
            answers = [(await http.get("/topics/foo/stream", headers=headers)).text for _ in range(30)]
    delays = [int(delay) for answer in answers for delay in re.findall(r"^retry: (\d+)$", answer, re.MULTILINE)]
    assert len(delays) == 30
    assert all("event: busy\n" in answer for answer in answers)
    assert max(delays) > 5_000
