"""GET /subscribers: who listens and works."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx

from tests.access.conftest import Guarded, guarded
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess
from tests.line_client import lines


async def listed(http: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await http.get("/subscribers", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["subscribers"]
    return found


async def until(http: httpx.AsyncClient, count: int, match: str) -> list[dict[str, Any]]:
    """When there are so many."""
    async with asyncio.timeout(DEADLINE):
        while True:
            found = await listed(http, match=match)
            if len(found) == count:
                return found
            await asyncio.sleep(0.01)


async def test_subscribers_and_consumers_are_listed_in_the_order_in_which_they_came(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    id = (await http.post(f"/topics/{topic}/messages", content=b"x")).json()["id"]
    await http.put(f"/topics/{topic}/groups/g")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stream(server, f"/topics/{topic}/stream"))
        await stack.enter_async_context(
            stream(server, f"/stream?topic={topic}.**&topic=elsewhere.{topic}&topic={topic}")
        )
        worker = await stack.enter_async_context(stream(server, f"/topics/{topic}/groups/g/stream"))
        await worker.take(1)
        peer = await stack.enter_async_context(lines(server))
        peer.send(f"sub {topic}")
        await peer.next()
        poll = asyncio.create_task(http.get(f"/topics/{topic}/messages", params={"since": id, "wait": "20s"}))
        found = await until(http, 5, topic)
        numbers = [one["id"] for one in found]
        assert numbers == sorted(set(numbers))
        by_kind = {one["kind"]: one for one in found}
        assert [one["kind"] for one in found] == ["stream", "stream", "worker", "line", "read"]
        assert {one["who"] for one in found} == {"127.0.0.1"}
        assert all(one["topics"] == [topic] for one in found)
        assert (by_kind["worker"]["group"], by_kind["worker"]["leased"]) == ("g", 1)
        assert (by_kind["line"]["state"], by_kind["line"]["position"][:8]) == ("live", id[:8])
        await http.post(f"/topics/{topic}/messages", content=b"wakes the poll")
        await poll
    await until(http, 0, topic)


async def test_a_page_ends_at_its_limit_and_the_next_goes_on(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(stream(server, f"/topics/{topic}/stream"))
        whole = await until(http, 5, topic)
        first = (await http.get("/subscribers", params={"match": topic, "limit": 2})).json()
        assert (first["subscribers"], first["next"]) == (whole[:2], whole[1]["id"])
        second = (await http.get("/subscribers", params={"match": topic, "after": first["next"]})).json()
        assert (second["subscribers"], second["next"]) == (whole[2:], None)
        assert (first["total"], second["total"]) == (5, 5)
        nobody = (await http.get("/subscribers", params={"match": topic, "search": "nobody is called so"})).json()
        assert nobody == {"subscribers": [], "next": None, "total": 0}
        some = (await http.get("/subscribers", params={"match": [topic, "other.**"], "search": "STREAM"})).json()
        assert some["total"] == 5


async def test_a_topic_finds_subscribers_of_its_patterns_and_a_pattern_those_below_it(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}.*/stream"), stream(server, f"/topics/{topic}.a.b/stream"):
        (found,) = await until(http, 1, f"{topic}.a")
        assert found["topics"] == [f"{topic}.*"]
        assert await listed(http, match=topic) == []
        assert [one["topics"] for one in await until(http, 2, f"{topic}.**")] == [[f"{topic}.*"], [f"{topic}.a.b"]]


async def test_a_subscriber_has_the_name_of_its_token_and_only_what_was_asked_for_is_shown(
    tmp_path: Any, topic: str
) -> None:
    with guarded(tmp_path, "own protocol") as server:
        reader = server.token("dashboard", subscribe=["**"])
        path = f"/stream?topic={topic}&topic=secret.{topic}"
        async with (
            httpx.AsyncClient(base_url=server.process.url) as http,
            stream(server.process, path, Authorization=f"Bearer {reader}"),
        ):
            (found,) = await _seen(http, server, topic)
        assert (found["who"], found["topics"]) == ("dashboard", [topic])


async def _seen(http: httpx.AsyncClient, server: Guarded, topic: str) -> list[dict[str, Any]]:
    http.headers["Authorization"] = f"Bearer {server.token('viewer', view=[topic])}"
    assert (await http.get("/subscribers")).status_code == 403
    return await until(http, 1, topic)
