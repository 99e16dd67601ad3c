"""All subscribers are disconnected at once and reconnect at once, while publishing continues."""

import asyncio
from collections.abc import Iterator
from threading import Event

import httpx
import pytest

from tests.abuse.subscribers import connect_subscribers, delivery_faults, metric, publish, raised_file_limit
from tests.harness import DEADLINE, ServerProcess, http_client, start_server


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with raised_file_limit():
        yield


async def reconnect_all(count: int) -> None:
    with start_server("--max-messages", "100000", tcp_port=0) as server:
        async with http_client(server.url, timeout=6 * DEADLINE) as http, asyncio.timeout(12 * DEADLINE):
            witness, *subscribers = await connect_subscribers(server, count + 1)
            last = [await publish(http) for _ in range(5)][-1]
            await asyncio.gather(*(subscriber.wait_for(last) for subscriber in subscribers))
            for subscriber in subscribers:
                subscriber.abort()
            reconnected = Event()
            publishing = asyncio.create_task(asyncio.to_thread(_publish_until, reconnected, server.url))
            await asyncio.gather(*(subscriber.connect() for subscriber in subscribers))
            reconnected.set()
            meanwhile = await publishing
            last = [await publish(http) for _ in range(5)][-1]
            await asyncio.gather(*(subscriber.wait_for(last) for subscriber in (witness, *subscribers)))
            print(f"{count} subscribers reconnected while {meanwhile} messages were published")
            assert meanwhile
            assert delivery_faults([witness, *subscribers], 1, last) == {}
            while await metric(http, "plainmq_subscribers") > count + 1:
                pass
            for subscriber in (witness, *subscribers):
                subscriber.abort()
            await _wait_until_all_left(server, http)


def _publish_until(reconnected: Event, url: str) -> int:
    """Publish until the subscribers have reconnected, with pauses that leave this process time for them."""
    count = 0
    with httpx.Client(base_url=url, timeout=DEADLINE) as http:
        while not (count and reconnected.is_set()):
            assert http.post("/topics/foo/messages", content="x").status_code == 201
            count += 1
            reconnected.wait(0.005)
    return count


async def _wait_until_all_left(server: ServerProcess, http: httpx.AsyncClient) -> None:
    while await metric(http, "plainmq_subscribers"):
        pass
    assert server.process.poll() is None


async def test_subscribers_that_are_disconnected_at_once_reconnect_and_miss_nothing() -> None:
    await reconnect_all(500)


@pytest.mark.slow
async def test_five_thousand_subscribers_that_are_disconnected_at_once_reconnect_and_miss_nothing() -> None:
    """`pytest -m slow -s tests/abuse/test_reconnects.py`"""
    await reconnect_all(5_000)
