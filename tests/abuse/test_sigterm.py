"""SIGTERM in the middle of everything: in time, in good order, and nothing that was confirmed is lost."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.abuse.subscribers import gather, many_files, stalled
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import lines

BUDGET = 25.0  # seconds


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with many_files():
        yield


async def publisher(http: httpx.AsyncClient, confirmed: list[int]) -> None:
    """Publish one message after the other until the server wants no more."""
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
async def test_a_thousand_readers_ten_of_them_stalled_and_publishers(engine: str, tmp_path: Path) -> None:
    store = "memory" if engine == "memory" else f"sqlite:{tmp_path}/log.db"
    with start_server("--engine", store, "--max-messages", "1000000") as server:
        async with (
            http_client(server.url, timeout=2 * DEADLINE) as http,
            lines(server) as worker,
            asyncio.timeout(4 * DEADLINE),
        ):
            readers = await gather(server, 990)
            held = [stalled(server.port) for _ in range(10)]
            await http.put("/topics/jobs/groups/g")
            await http.post("/topics/jobs/messages", content=b"not done")
            worker.send("work jobs g")
            assert [(await worker.next())[:3] for _ in range(2)] == [b"OK ", b"JOB"]
            confirmed: list[int] = []
            publishers = [asyncio.ensure_future(publisher(http, confirmed)) for _ in range(4)]
            while len(confirmed) < 20:
                await http.get("/livez")
            server.process.send_signal(signal.SIGTERM)
            stopped = asyncio.get_running_loop().run_in_executor(None, server.process.wait, BUDGET)
            await asyncio.gather(*publishers, *(reader.until_lost() for reader in readers))
            assert await stopped == 0
            assert await worker.next() == b"BYE draining\r\n"
            for sock in held:
                sock.close()
        lost = sum(len(set(confirmed) - set(reader.seqs)) for reader in readers)
        twice = sum(len(reader.seqs) - len(set(reader.seqs)) for reader in readers)
        told = sum(reader.bye and reader.ended_in_order for reader in readers)
        print(f"{engine}: {len(confirmed)} confirmed; lost {lost}, twice {twice}; told to come back {told} of 990")
        assert (lost, twice, told) == (0, 0, 990)
    if engine == "sqlite":
        with start_server("--engine", store, "--max-messages", "1000000", tcp_port=0) as server:
            await _all_there(server, confirmed)


async def _all_there(server: ServerProcess, confirmed: list[int]) -> None:
    """What was confirmed is in the log, and the job that was not done can be had again."""
    async with http_client(server.url) as http:
        kept: set[int] = set()
        since = "earliest"
        while page := (await http.get("/topics/foo/messages", params={"since": since, "limit": 1_000})).json():
            kept |= {int(message["id"].rpartition("-")[2]) for message in page["messages"]}
            since = page["next"]
            if not page["messages"]:
                break
        assert set(confirmed) <= kept
        job = (await http.post("/topics/jobs/groups/g/pull?wait=5s")).json()["messages"]
        assert [message["data"] for message in job] == ["not done"]
