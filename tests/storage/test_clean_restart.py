"""A server is stopped in good order and started again on its file; its clients go on where they were."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import ServerProcess
from tests.line_client import lines
from tests.storage.successors import Next, successors


@pytest.fixture
def next_server(tmp_path: Path) -> Iterator[Next]:
    """Stops the server in good order and starts the next one on its file."""

    def stop(server: ServerProcess) -> None:
        assert server.stop() == 0

    with successors(tmp_path, stop) as start:
        yield start


def post(server: ServerProcess, topic: str, *bodies: str, **options: str) -> list[dict[str, Any]]:
    path = f"{server.url}/topics/{topic}/messages"
    return [httpx.post(path, content=body, params=options).raise_for_status().json() for body in bodies]


def ask(server: ServerProcess, method: str, path: str, **request: Any) -> Any:
    return httpx.request(method, f"{server.url}{path}", **request).raise_for_status().json()


def pull(server: ServerProcess, **options: str | int) -> list[tuple[str, int]]:
    """Bodies and attempts."""
    answer = httpx.post(f"{server.url}/topics/t/groups/g/pull", params=options).raise_for_status()
    return [(message["data"], message["attempt"]) for message in answer.json()["messages"]]


async def test_a_subscriber_resumes_at_its_position_without_a_gap(next_server: Next) -> None:
    server = next_server()
    post(server, "t", "0")
    async with stream(server, "/topics/t/stream?since=earliest") as events:
        place = (await events.take(1))[0].last_event_id
    for n in range(1, 4):
        server = next_server()
        post(server, "t", str(n))
        async with stream(server, "/topics/t/stream", Last_Event_ID=place) as events:
            (event,) = await events.take(1)
            assert (event.type, event.data) == ("message", str(n))
            place = event.last_event_id


async def test_what_connected_workers_held_is_there_for_others_at_once(next_server: Next) -> None:
    server = next_server()
    post(server, "t", *"1234")
    ask(server, "PUT", "/topics/t/groups/g")
    async with (
        stream(server, "/topics/t/groups/g/stream?credit=2&lease=1h") as events,
        lines(server) as line,
    ):
        await events.take(2)
        line.send('{"command":"subscribe","topic":"t","group":"g","credit":2,"lease":"1h"}')
        assert len(await line.take(3)) == 3
        server = next_server()
    assert pull(server, max=9) == [("1", 2), ("2", 2), ("3", 2), ("4", 2)]


async def test_what_was_pulled_stays_leased(next_server: Next) -> None:
    server = next_server()
    post(server, "t", *"12")
    assert pull(server, max=1, lease="1h") == [("1", 1)]
    server = next_server()
    assert pull(server, max=9) == [("2", 1)]


def test_settings_with_durations_stay(next_server: Next) -> None:
    server = next_server()
    settings = {"topics/t": {"max_age": "2h", "max_messages": 7}, "topics/t/groups/g": {"ack_timeout": "45s"}}
    for path, body in settings.items():
        httpx.put(f"{server.url}/{path}", json=body).raise_for_status()
    before = [httpx.get(f"{server.url}/{path}").json() for path in settings]
    server = next_server()
    assert [httpx.get(f"{server.url}/{path}").json() for path in settings] == before
    assert (before[0]["retention"]["max_age"], before[1]["ack_timeout"]) == ("2h", "45s")


async def test_a_delayed_message_comes_after_the_start_and_once(next_server: Next) -> None:
    server = next_server()
    (scheduled,) = post(server, "t", "late", delay="1s", ttl="1h")
    assert scheduled["scheduled"] == 1
    server = next_server()
    async with stream(server, "/topics/t/stream?since=earliest") as events:
        assert await events.data(1) == ["late"]
    server = next_server()
    post(server, "t", "end")
    async with stream(server, "/topics/t/stream?since=earliest") as events:
        assert await events.data(2) == ["late", "end"]


async def test_however_often_the_server_is_stopped_no_job_dies_of_it(next_server: Next) -> None:
    server = next_server()
    post(server, "t", *"12")
    ask(server, "PUT", "/topics/t/groups/g", json={"max_deliveries": 2})
    for attempt in range(1, 5):
        async with stream(server, "/topics/t/groups/g/stream?credit=1&lease=1h") as events, lines(server) as line:
            (event,) = await events.take(1)
            assert json.loads(event.data)["attempt"] == attempt
            line.send('{"command":"subscribe","topic":"t","group":"g","credit":1,"lease":"1h"}')
            assert json.loads((await line.take(2))[1])["attempt"] == attempt
            server = next_server()
    group = ask(server, "GET", "/topics/t/groups/g")
    assert (group["ready"], group["leased"], group["delayed"], group["dead"]) == (2, 0, 0, 0)


async def test_a_worker_that_fails_still_uses_its_attempts_up_between_stops(next_server: Next) -> None:
    server = next_server()
    post(server, "t", "1")
    ask(server, "PUT", "/topics/t/groups/g", json={"max_deliveries": 2})
    for _ in range(2):
        async with stream(server, "/topics/t/groups/g/stream?lease=1h") as events:
            (event,) = await events.take(1)
            server = next_server()
        ((_, attempt),) = pull(server, wait="5s")
        lease = f"{json.loads(event.data)['id']}-{attempt}"
        answer = ask(server, "POST", "/topics/t/groups/g/nack?delay=0s", json={"ids": [lease]})
        assert answer == {"results": {lease: "done"}}
    (letter,) = ask(server, "GET", "/topics/t.dead/messages")["messages"]
    assert (letter["data"], letter["dead"]["attempts"], letter["dead"]["reason"]) == ("1", 2, "nack")
