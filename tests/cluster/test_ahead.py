"""Ids that a client has from one server, at another one that has not read so far: on a real Redis, by HTTP and by the
line port.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.cluster.late_entries import LateEntries, late_entries
from tests.event_stream import stream as open_stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import lines
from tests.redis_server import RedisServer


class Pair:
    """A server, and one to which entries come late."""

    def __init__(self, first: ServerProcess, late: ServerProcess, entries: LateEntries) -> None:
        self.first, self.late, self.entries = first, late, entries

    async def publish(self, body: str) -> str:
        async with http_client(self.first.url) as http:
            return str((await http.post("/topics/foo/messages", content=body)).json()["id"])

    async def answer(self, asked: Coroutine[Any, Any, Any]) -> Any:
        """What the late server answers; the entries come when it has asked Redis what it lacks."""
        answer = asyncio.ensure_future(asked)
        waiting = asyncio.ensure_future(self.entries.asked.wait())
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait([answer, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            self.entries.release()
            return await answer


@asynccontextmanager
async def pair(redis: RedisServer) -> AsyncIterator[Pair]:
    async with late_entries(redis.port) as entries:
        place = "/0?name=demo"
        first_engine, late_engine = (f"redis://127.0.0.1:{port}{place}" for port in (redis.port, entries.port))
        with start_server("--engine", first_engine) as first:
            process = start_server("--engine", late_engine)
            late = await asyncio.to_thread(process.__enter__)  # it connects to a proxy that runs in this loop
            try:
                yield Pair(first, late, entries)
            finally:
                await asyncio.to_thread(process.__exit__, None, None, None)


async def resumed(servers: Pair, id: str) -> list[str]:
    async with open_stream(servers.late, "/topics/foo/stream", Last_Event_ID=id) as stream:
        await servers.publish("next")
        (event,) = await stream.take(1)
        return [event.type, event.data]


async def page(servers: Pair, id: str) -> Any:
    async with http_client(servers.late.url) as http:
        return (await http.get("/topics/foo/messages", params={"since": id})).json()


async def message(servers: Pair, id: str) -> Any:
    async with http_client(servers.late.url) as http:
        return (await http.get(f"/topics/foo/messages/{id}")).text


async def resumed_by_line(servers: Pair, line: str) -> list[str]:
    """The answer to a subscribe, and the first message."""
    async with lines(servers.late) as client:
        client.send(line)
        answer = await client.next()
        await servers.publish("next")
        return [answer.decode().strip(), (await client.next()).decode().strip()]


async def by_text(servers: Pair, id: str) -> list[str]:
    return await resumed_by_line(servers, f"sub foo {id}")


async def by_index(servers: Pair, _id: str) -> list[str]:
    return await resumed_by_line(servers, '{"command":"subscribe","topic":"foo","last_seen":1}')


ASKS: dict[str, tuple[Callable[[Pair, str], Coroutine[Any, Any, Any]], Callable[[Any], bool]]] = {
    "stream": (resumed, lambda events: events == ["message", "next"]),
    "page": (page, lambda found: found["messages"] == [] and "gap" not in found),
    "message": (message, lambda body: body == "x"),
    "text": (by_text, lambda answers: answers[0].startswith("OK") and answers[1].endswith("next")),
    "index": (by_index, lambda answers: json.loads(answers[1])["msg"] == "next"),
}


@pytest.mark.parametrize("ask", ASKS)
async def test_an_id_is_good_at_a_server_that_has_not_read_so_far(redis: RedisServer, ask: str) -> None:
    asks, is_right = ASKS[ask]
    async with pair(redis) as servers:
        await servers.publish("before")
        servers.entries.hold()
        id = await servers.publish("x")
        answer = await servers.answer(asks(servers, id))
        assert is_right(answer), answer


async def test_a_message_that_was_pulled_at_one_server_can_be_acked_at_one_that_is_late(redis: RedisServer) -> None:
    async with pair(redis) as servers:
        servers.entries.hold()
        id = await servers.publish("x")
        async with http_client(servers.first.url) as http:
            pulled = (await http.post("/topics/foo/groups/g/pull")).json()["messages"]
        ids = {"ids": [message["id"] for message in pulled]}

        async def ack() -> Any:
            async with http_client(servers.late.url) as http:
                return (await http.post("/topics/foo/groups/g/ack", json=ids)).json()["results"]

        assert await servers.answer(ack()) == {id: "done"}


async def test_a_stream_at_a_server_that_stays_late_ends_so_that_its_client_comes_back(redis: RedisServer) -> None:
    async with pair(redis) as servers:
        servers.entries.hold()
        id = await servers.publish("x")
        async with open_stream(servers.late, "/topics/foo/stream", Last_Event_ID=id) as stream:
            (bye,) = await stream.take(1)
            assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "failover"})
        async with http_client(servers.late.url) as http:
            answer = await http.get(f"/topics/foo/messages/{id}")
            assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
            assert answer.headers["retry-after"]
        servers.entries.release()
        async with open_stream(servers.late, "/topics/foo/stream", Last_Event_ID=id) as stream:
            await servers.publish("next")
            assert [event.data for event in await stream.take(1)] == ["next"]
