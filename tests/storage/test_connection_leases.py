"""A lease that is bound to a connection ends with it, in whatever way the server ended; one that was pulled stays."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import ServerProcess
from tests.line_client import lines
from tests.storage.successors import Next, successors

GROUP = "topics/t/groups/g"


@pytest.fixture
def next_server(tmp_path: Path) -> Iterator[Next]:
    """Kills the server and starts the next one on its file."""

    def kill(server: ServerProcess) -> None:
        server.stop(signal.SIGKILL)

    with successors(tmp_path, kill) as start:
        yield start


def post(server: ServerProcess, *bodies: str) -> None:
    for body in bodies:
        httpx.post(f"{server.url}/topics/t/messages", content=body).raise_for_status()


def pull(server: ServerProcess, **options: str | int) -> dict[str, int]:
    """Attempts by body."""
    answer = ask(server, "POST", "/pull", params=options)
    return {message["data"]: message["attempt"] for message in answer.json()["messages"]}


def ask(server: ServerProcess, method: str, verb: str = "", **request: Any) -> httpx.Response:
    return httpx.request(method, f"{server.url}/topics/t/groups/g{verb}", **request)


async def test_what_connected_workers_held_is_there_at_once_after_a_kill_and_what_was_pulled_is_not(
    next_server: Next,
) -> None:
    server = next_server()
    post(server, *"12345")
    assert pull(server, max=1, lease="1h") == {"1": 1}
    async with stream(server, f"/{GROUP}/stream?credit=2&lease=1h") as events, lines(server) as line:
        await events.take(2)
        line.send('{"command":"subscribe","topic":"t","group":"g","credit":2,"lease":"1h"}')
        assert len(await line.take(3)) == 3
        server = next_server()
    assert pull(server, max=9) == {"2": 2, "3": 2, "4": 2, "5": 2}


async def test_however_often_the_server_is_killed_no_job_dies_of_it(next_server: Next) -> None:
    server = next_server()
    post(server, "1")
    ask(server, "PUT", json={"max_deliveries": 2})
    for attempt in range(1, 4):
        async with stream(server, f"/{GROUP}/stream?lease=1h") as events:
            assert json.loads((await events.take(1))[0].data)["attempt"] == attempt
            server = next_server()
    assert ask(server, "GET").json()["dead"] == 0
    assert pull(server) == {"1": 4}


async def test_a_late_ack_of_a_lease_that_ended_with_the_server_says_expired(next_server: Next) -> None:
    server = next_server()
    post(server, "1")
    ask(server, "PUT")
    async with stream(server, f"/{GROUP}/stream?lease=1h") as events:
        lease = json.loads((await events.take(1))[0].data)["lease"]
        server = next_server()
    assert pull(server) == {"1": 2}
    assert ask(server, "POST", "/ack", json={"ids": [lease]}).status_code == 409
    assert ask(server, "GET").json()["leased"] == 1
