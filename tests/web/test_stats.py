"""GET /stats and GET /stats/stream: the figures follow what happens, and all viewers share them."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import SERVERS
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """One that nobody else uses, both ways."""
    with SERVERS[request.param]() as process:
        yield process


async def until(server: ServerProcess, **expected: Any) -> dict[str, Any]:
    """Watch until a sample has these values, and return it."""
    async with asyncio.timeout(DEADLINE), stream(server, "/stats/stream") as viewer:
        while True:
            (event,) = await viewer.take(1)
            assert event.type == "stats"
            sample: dict[str, Any] = json.loads(event.data)
            if {name: sample[name] for name in expected} == expected:
                return sample


async def test_a_sample_counts_what_the_log_and_its_groups_hold(http: httpx.AsyncClient, server: ServerProcess) -> None:
    before = (await http.get("/stats")).json()["now"]
    for body in ("one", "two", "three"):
        (await http.post("/topics/stats.jobs/messages", content=body)).raise_for_status()
    pulled = await http.post("/topics/stats.jobs/groups/g/pull", params={"max": 2})
    ids = [message["lease"] for message in pulled.json()["messages"]]
    await http.post("/topics/stats.jobs/groups/g/ack", json={"ids": ids[:1]})
    sample = await until(server, messages=before["messages"] + 3, leased=before["leased"] + 1)
    assert sample["ready"] == before["ready"] + 1
    assert sample["groups"] == before["groups"] + 1
    assert sample["topics"] == before["topics"] + 1
    assert 0 < sample["memory"] < sample["memory_limit"]


async def test_what_is_published_and_refused_shows_as_a_rate(http: httpx.AsyncClient, server: ServerProcess) -> None:
    async with asyncio.timeout(DEADLINE), stream(server, "/stats/stream") as viewer:
        await viewer.next()
        for _ in range(10):
            await http.post("/topics/stats.rate/messages", content=b"x")
            await http.post("/topics/stats..rate/messages", content=b"x")
        published = refused = 0.0
        while published <= 0 or refused <= 0:
            sample = json.loads((await viewer.take(1))[0].data)
            published, refused = max(published, sample["published"]), max(refused, sample["refused"])


async def test_the_first_answer_describes_the_server_and_its_last_minutes(http: httpx.AsyncClient) -> None:
    body = (await http.get("/stats", params={"history": "true"})).json()
    assert [*body["history"][-1]] == [*body["now"]]
    assert body["server"]["durability"] == "memory"
    assert body["server"]["unready"] is None
    assert body["server"]["draining"] is False
    assert "history" not in (await http.get("/stats")).json()


async def needs(http: httpx.AsyncClient, topic: str) -> list[tuple[str, str]]:
    """The kind and the text of what needs attention in the topic."""
    found = (await http.get("/stats")).json()["attention"]
    return [(matter["kind"], matter["text"]) for matter in found if matter.get("topic") == topic]


async def test_groups_that_need_attention_are_named_the_most_urgent_first(http: httpx.AsyncClient) -> None:
    topic, path = "stats.care", "/topics/stats.care/groups/g"
    await http.put(path, json={"max_deliveries": 1})
    for body in ("one", "two", "three"):
        await http.post(f"/topics/{topic}/messages", content=body)
    ready = ("no_workers", "3 messages ready and no consumer in g of stats.care")
    assert await needs(http, topic) == [ready]
    (job,) = (await http.post(f"{path}/pull", params={"max": 1})).json()["messages"]
    assert await needs(http, topic) == []  # somebody has a lease
    await http.post(f"{path}/nack", json={"ids": [job["lease"]]})
    dead = ("dead", "1 dead message in g of stats.care")
    ready = ("no_workers", "2 messages ready and no consumer in g of stats.care")
    assert await needs(http, topic) == [dead, ready]
    await http.post(f"{path}/pause")
    assert await needs(http, topic) == [dead, ("paused", "2 messages ready and paused in g of stats.care")]
    await http.delete(f"/topics/{topic}")
    assert await needs(http, topic) == []


async def test_the_stream_says_the_same_as_the_answer(http: httpx.AsyncClient, server: ServerProcess) -> None:
    await http.put("/topics/stats.same/groups/g", json={})
    await http.post("/topics/stats.same/messages", content=b"x")
    answer = (await http.get("/stats")).json()
    sample = await until(server, attention=answer["attention"])
    assert sample["attention_total"] == answer["attention_total"] >= 1


async def test_no_more_groups_are_named_than_a_person_reads_and_all_are_counted() -> None:
    with start_server() as server:
        async with http_client(server.url) as http:
            for number in range(25):
                path = f"/topics/t{number:02}"
                await http.put(f"{path}/groups/g", json={"max_deliveries": 1})
                await http.post(
                    f"{path}/messages", content="1\n" * (number + 1), headers={"Content-Type": "application/x-ndjson"}
                )
            (job,) = (await http.post("/topics/t00/groups/g/pull")).json()["messages"]
            await http.post("/topics/t00/groups/g/nack", json={"ids": [job["lease"]]})
            answer = (await http.get("/stats")).json()
            assert answer["attention_total"] == 25
            topics = [matter["topic"] for matter in answer["attention"]]
            assert topics == [
                "t00",
                *(f"t{number:02}" for number in range(24, 5, -1)),
            ]  # dead first, then the most ready


async def test_two_viewers_get_the_same_samples(server: ServerProcess) -> None:
    async with asyncio.timeout(DEADLINE), stream(server, "/stats/stream") as one:
        await one.next()
        async with stream(server, "/stats/stream") as other:
            shown = await other.data(2)
            while await one.data(1) != shown[-1:]:
                pass


async def test_a_viewer_counts_as_a_subscriber_and_leaves_its_place() -> None:
    with start_server("--max-subscribers", "1") as server:
        async with http_client(server.url) as http:
            async with stream(server, "/stats/stream") as viewer:
                await viewer.next()
                refused = await http.get("/stats/stream")
                assert (refused.status_code, refused.json()["code"]) == (503, "subscriber_limit")
            async with asyncio.timeout(DEADLINE):
                while (await http.get("/stats/stream", params={"timeout": "1ms"})).status_code != 200:
                    pass


async def test_a_viewer_is_ended_with_a_bye_when_the_server_stops() -> None:
    with start_server() as server:
        async with stream(server, "/stats/stream") as viewer:
            await viewer.next()
            server.process.terminate()
            async with asyncio.timeout(DEADLINE):
                while (event := (await viewer.take(1))[0]).type == "stats":
                    pass
        assert (event.type, json.loads(event.data)["reason"]) == ("bye", "draining")
