"""Publishers against subscribers that come, go and resume at random, over both endpoints. The ledgers are checked
afterwards."""

import asyncio
import json
import random

import pytest

from app.messages.topic import TopicFilter
from tests.event_stream import stream
from tests.harness import ServerProcess, http_client, start_server
from tests.ledgers.subscribers import GAP, Ledger
from tests.line_client import lines

TOPICS = ["race.a", "race.b", "race.c/d"]
END = "end"


async def publish_by_http(server: ServerProcess, ledger: Ledger, count: int, name: str, dice: random.Random) -> None:
    async with http_client(server.url) as client:
        for n in range(count):
            topic, body = dice.choice(TOPICS), f"{name}-{n}"
            answer = await client.post(f"/topics/{topic}/messages", content=body)
            ledger.published[int(answer.json()["id"].split("-")[1])] = (topic, body)


async def publish_by_line(server: ServerProcess, ledger: Ledger, count: int, name: str, dice: random.Random) -> None:
    async with lines(server) as words:
        for n in range(count):
            topic, body = dice.choice(TOPICS), f"{name}-{n}"
            words.send(f"pub {topic} {body}")
            answer = (await words.next()).decode().split()
            ledger.published[int(answer[1].split("-")[1])] = (topic, body)


async def read_by_stream(
    server: ServerProcess, ledger: Ledger, names: list[str], dice: random.Random, opened: asyncio.Event
) -> None:
    """Read until the end, in connections that are cut after a random number of events."""
    entries: list[tuple[int, str, str] | str] = []
    ledger.read.append((TopicFilter(names), entries))
    query = "&".join(f"topic={name}" for name in names)
    place = ""
    while True:
        start = {"Last_Event_ID": place} if place else {}
        async with stream(server, f"/stream?{query}&format=json&since=earliest", **start) as events:
            opened.set()
            for _ in range(dice.randint(1, 300)):
                event = await events.next()
                assert event is not None
                record = json.loads(event.data)
                if event.type == "gap":
                    entries.append(GAP)
                    continue
                place = event.last_event_id
                if record["data"] == END:
                    return
                entries.append((int(place.split("-")[1]), record["topic"], record["data"]))


async def read_by_line(
    server: ServerProcess, ledger: Ledger, names: list[str], dice: random.Random, opened: asyncio.Event
) -> None:
    """Likewise on the line port, where `sub TOPIC id` resumes and a loss is a line GAP."""
    (name,) = names
    entries: list[tuple[int, str, str] | str] = []
    ledger.read.append((TopicFilter(names), entries))
    place = "earliest"
    while True:
        async with lines(server) as words:
            words.send(f"sub {name} {place}")
            assert (await words.next()).startswith(b"OK")
            opened.set()
            for _ in range(dice.randint(1, 300)):
                line = (await words.next()).decode().rstrip()
                if line.startswith("GAP"):
                    entries.append(GAP)
                    continue
                _, topic, place, body = line.split(" ", 3)
                if body == END:
                    return
                entries.append((int(place.split("-")[1]), topic, body))


async def race(count: int, max_messages: int, seed: int) -> Ledger:
    """Four publishers, eight subscribers of each endpoint."""
    dice, ledger = random.Random(seed), Ledger()
    filters = [["race.a"], ["race.*"], ["race.**"], ["race.c/d"]]
    with start_server("--max-messages", str(max_messages)) as server:
        subscribers_by_endpoint = [
            (read, asyncio.Event(), n) for read in (read_by_stream, read_by_line) for n in range(8)
        ]
        readers = [
            asyncio.create_task(read(server, ledger, filters[n % 4], random.Random(dice.random()), opened))
            for read, opened, n in subscribers_by_endpoint
        ]
        for _, opened, _ in subscribers_by_endpoint:
            await opened.wait()
        publishers = [
            publish(server, ledger, count, f"{publish.__name__}{n}", random.Random(dice.random()))
            for publish in (publish_by_http, publish_by_line)
            for n in range(2)
        ]
        await asyncio.gather(*publishers)
        async with http_client(server.url) as client:
            for topic in TOPICS:
                await client.post(f"/topics/{topic}/messages", content=END)
        async with asyncio.timeout(60):
            await asyncio.gather(*readers)
    return ledger


@pytest.mark.parametrize("max_messages", [100_000, 50], ids=["all is kept", "little is kept"])
async def test_subscribers_that_come_and_go_see_every_message_once_in_order_or_a_gap(max_messages: int) -> None:
    ledger = await race(300, max_messages, seed=7)
    assert len(ledger.published) == 1_200
    assert ledger.faults() == {}
    if max_messages == 100_000:
        assert all(GAP not in entries for _, entries in ledger.read)


@pytest.mark.slow
@pytest.mark.parametrize("max_messages", [100_000, 50], ids=["all is kept", "little is kept"])
async def test_the_same_for_half_a_minute(max_messages: int) -> None:
    ledger = await race(6_000, max_messages, seed=11)
    assert len(ledger.published) == 24_000
    assert ledger.faults() == {}
    print(f"\n{len(ledger.published)} published, {sum(len(entries) for _, entries in ledger.read)} read, faults: none")
