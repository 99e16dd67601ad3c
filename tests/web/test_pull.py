"""Workers that pull over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.event_stream import stream
from tests.harness import ServerProcess
from tests.web.groups import Group, data


async def test_each_message_goes_to_one_worker_in_order(group: Group) -> None:
    await group.publish(*map(str, range(5)))
    pulls = [await group.pull(max=2) for _ in range(4)]
    assert list(map(data, pulls)) == [["0", "1"], ["2", "3"], ["4"], []]


async def test_a_pull_takes_ten_unless_it_says_how_many(group: Group) -> None:
    await group.publish(*map(str, range(12)))
    assert len(await group.pull()) == 10


async def test_a_message_comes_with_its_lease(group: Group) -> None:
    (id,) = await group.publish("work", event="resize")
    (message,) = await group.pull()
    assert message["lease_expires"] > message["time"]
    stream_request = {"id": id, "data": "work", "event": "resize", "attempt": 1, "lease": f"{id}-1"}
    assert {name: message[name] for name in stream_request} == stream_request


async def test_lines_are_the_same_messages(group: Group) -> None:
    await group.publish("1", "2\u20282\x852")
    answer = await group.http.post(f"{group.path}/pull", headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert data([json.loads(line) for line in answer.text.splitlines()]) == ["1", "2\u20282\x852"]


async def test_a_pull_with_a_body_is_refused_and_leases_nothing(group: Group) -> None:
    await group.publish("work")
    for body in (b'{"max":5}', b"x" * 100_000):
        answer = await group.http.post(f"{group.path}/pull", content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert data(await group.pull()) == ["work"]


async def test_groups_get_everything_each_and_subscribers_too(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    one, two = Group(http, topic, "one"), Group(http, topic, "two")
    async with stream(server, f"/topics/{topic}/stream") as events:
        await one.publish("a", "b")
        assert data(await one.pull()) == data(await two.pull()) == await events.data(2) == ["a", "b"]


async def test_a_waiting_pull_is_answered_by_a_publish(group: Group) -> None:
    await group.http.put(group.path)
    waiting = asyncio.create_task(group.pull(wait="60s"))
    await group.until("workers", 1)
    await group.publish("news")
    assert data(await waiting) == ["news"]
    assert await group.counters("workers", "leased") == (0, 1)


async def test_a_waiting_pull_without_news_is_answered_with_nothing(group: Group) -> None:
    await group.http.put(group.path)
    assert await group.pull(wait="20ms") == []


@asynccontextmanager
async def request(server: ServerProcess, path: str) -> AsyncIterator[asyncio.StreamWriter]:
    """A POST on a connection of its own, without waiting for the answer."""
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
    try:
        yield writer
    finally:
        writer.close()


async def test_a_client_that_leaves_while_it_waits_takes_nothing(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    async with request(server, f"{group.path}/pull?wait=60s"):
        await group.until("workers", 1)
    await group.until("workers", 0)
    await group.publish("work")
    assert await group.counters("ready", "leased") == (1, 0)
    (message,) = await group.pull()
    assert message["attempt"] == 1


async def test_messages_are_handed_out_to_waiting_consumers_in_turn(group: Group) -> None:
    await group.http.put(group.path)
    waiting = [asyncio.create_task(group.pull(max=1, wait="60s")) for _ in range(3)]
    await group.until("workers", 3)
    await group.publish("1", "2", "3")
    assert sorted(map(data, await asyncio.gather(*waiting))) == [["1"], ["2"], ["3"]]
