"""SIGTERM under load: the server stops in time, ends all streams cleanly, and loses no confirmed message."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.abuse.subscribers import connect_subscribers, open_stalled, raised_file_limit
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import lines

BUDGET = 25.0  # seconds


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with raised_file_limit():
        yield


async def publisher(http: httpx.AsyncClient, confirmed: list[int]) -> None:
    """Publish one message after the other until the server refuses or closes."""
    while True:
        try:
            answer = await http.post("/topics/foo/messages", content=b"x")
        except httpx.TransportError:
            return
        if answer.status_code == 503:
            assert answer.json()["code"] == "draining"
            return
        assert answer.status_code == 201
        confirmed.append(int(answer.json()["id"].rpartition("-")[2]))


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
async def test_sigterm_with_publishers_and_a_thousand_subscribers_of_which_ten_are_stalled(
    engine: str, tmp_path: Path
) -> None:
    store = "memory" if engine == "memory" else f"sqlite:{tmp_path}/log.db"
    with start_server("--engine", store, "--max-messages", "1000000") as server:
        async with (
            http_client(server.url, timeout=2 * DEADLINE) as http,
            lines(server) as consumer,
            asyncio.timeout(4 * DEADLINE),
        ):
            subscribers = await connect_subscribers(server, 990)
            stalled = [open_stalled(server.port) for _ in range(10)]
            await http.put("/topics/jobs/groups/g")
            await http.post("/topics/jobs/messages", content=b"not done")
            consumer.send("work jobs g")
            assert [(await consumer.next())[:3] for _ in range(2)] == [b"OK ", b"JOB"]
            confirmed: list[int] = []
            publishers = [asyncio.ensure_future(publisher(http, confirmed)) for _ in range(4)]
            while len(confirmed) < 20:
                await http.get("/livez")
            server.process.send_signal(signal.SIGTERM)
            stopped = asyncio.get_running_loop().run_in_executor(None, server.process.wait, BUDGET)
            await asyncio.gather(*publishers, *(subscriber.wait_closed() for subscriber in subscribers))
            assert await stopped == 0
            assert await consumer.next() == b"BYE draining\r\n"
            for sock in stalled:
                sock.close()
        lost = sum(len(set(confirmed) - set(subscriber.seqs)) for subscriber in subscribers)
        twice = sum(len(subscriber.seqs) - len(set(subscriber.seqs)) for subscriber in subscribers)
        clean = sum(subscriber.reconnect_time and subscriber.ended_cleanly for subscriber in subscribers)
        print(f"{engine}: {len(confirmed)} confirmed; lost {lost}, twice {twice}; ended cleanly {clean} of 990")
        assert (lost, twice, clean) == (0, 0, 990)
    if engine == "sqlite":
        with start_server("--engine", store, "--max-messages", "1000000", tcp_port=0) as server:
            await _check_log(server, confirmed)


async def _check_log(server: ServerProcess, confirmed: list[int]) -> None:
    """The confirmed messages are in the log, and the message that was not acked can be pulled again."""
    async with http_client(server.url) as http:
        retained: set[int] = set()
        since = "earliest"
        while page := (await http.get("/topics/foo/messages", params={"since": since, "limit": 1_000})).json():
            retained |= {int(message["id"].rpartition("-")[2]) for message in page["messages"]}
            since = page["next"]
            if not page["messages"]:
                break
        assert set(confirmed) <= retained
        job = (await http.post("/topics/jobs/groups/g/pull?wait=5s")).json()["messages"]
        assert [message["data"] for message in job] == ["not done"]
