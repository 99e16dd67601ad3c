"""All readers are cut off at once, and come back at once, while publishing goes on."""

import asyncio
from collections.abc import Iterator
from threading import Event

import httpx
import pytest

from tests.abuse.subscribers import faults, gather, many_files, numbers, publish
from tests.harness import DEADLINE, ServerProcess, http_client, start_server


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with many_files():
        yield


async def storm(count: int) -> None:
    with start_server("--max-messages", "100000", tcp_port=0) as server:
        async with http_client(server.url, timeout=6 * DEADLINE) as http, asyncio.timeout(12 * DEADLINE):
            stays, *readers = await gather(server, count + 1)
            last = [await publish(http) for _ in range(5)][-1]
            await asyncio.gather(*(reader.until(last) for reader in readers))
            for reader in readers:
                reader.cut()
            back = Event()
            publishing = asyncio.create_task(asyncio.to_thread(_publish_until, back, server.url))
            await asyncio.gather(*(reader.connect() for reader in readers))
            back.set()
            meanwhile = await publishing
            last = [await publish(http) for _ in range(5)][-1]
            await asyncio.gather(*(reader.until(last) for reader in (stays, *readers)))
            print(f"{count} readers came back while {meanwhile} messages were published")
            assert meanwhile
            assert faults([stays, *readers], 1, last) == {}
            while await numbers(http, "plainmq_subscribers") > count + 1:
                pass
            for reader in (stays, *readers):
                reader.cut()
            await _all_gone(server, http)


def _publish_until(back: Event, url: str) -> int:
    """Publish from when the others set out until they are back; not so fast that this process has no time for them."""
    count = 0
    with httpx.Client(base_url=url, timeout=DEADLINE) as http:
        while not (count and back.is_set()):
            assert http.post("/topics/foo/messages", content="x").status_code == 201
            count += 1
            back.wait(0.005)
    return count


async def _all_gone(server: ServerProcess, http: httpx.AsyncClient) -> None:
    while await numbers(http, "plainmq_subscribers"):
        pass
    assert server.process.poll() is None


async def test_readers_that_are_cut_off_at_once_all_come_back_without_a_hole() -> None:
    await storm(500)


@pytest.mark.slow
async def test_five_thousand_readers_that_are_cut_off_at_once_all_come_back_without_a_hole() -> None:
    """`pytest -m slow -s tests/abuse/test_reconnects.py`"""
    await storm(5_000)
