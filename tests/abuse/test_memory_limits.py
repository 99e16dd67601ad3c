"""Too many topics and too many large messages: they are refused at the limits, within the announced memory."""

import asyncio
import re
from collections import Counter

import httpx

from tests.abuse.subscribers import metric
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import lines

TOPICS = 100_000
MAX_BATCH = 1_000  # lines
UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}


async def test_a_hundred_thousand_topics_and_a_log_of_the_largest_messages_stay_within_the_limits() -> None:
    with start_server() as server:
        async with http_client(server.url) as http, asyncio.timeout(10 * DEADLINE):
            series = await _series(http)
            answers = await _publish_to_many(server)
            assert answers == {"OK": 10_000, "ERR topic_limit": TOPICS - 10_000}
            assert await metric(http, "plainmq_topics") == 10_000
            refused = await http.post("/topics/one.more/messages", content=b"x")
            assert (refused.status_code, refused.json()["code"]) == (429, "topic_limit")
            stored = await _fill(http)
            print(f"{stored} messages of 1 MiB were stored; resident memory {server.resident() >> 20} MiB")
            assert 220 < stored < 256
            assert await _series(http) == series
            announced = re.search(r"memory +at most ([\d.]+)([MG]iB)", server.banner)
            assert announced
            assert server.resident() < float(announced[1]) * UNITS[announced[2]]
            assert server.resident() < (256 + 128) << 20  # the log, and the program
            assert (await http.post("/topics/topic.0/messages?retain=false", content=b"x")).status_code == 201


async def _series(http: httpx.AsyncClient) -> int:
    """The number of time series of the metrics."""
    lines = (await http.get("/metrics")).text.splitlines()
    return sum(not line.startswith("#") for line in lines)


async def _publish_to_many(server: ServerProcess) -> Counter[str]:
    answers: Counter[str] = Counter()
    async with lines(server) as client:
        for start in range(0, TOPICS, MAX_BATCH):
            client.send(*(f"pub topic.{number} x" for number in range(start, start + MAX_BATCH)))
            for line in await client.take(MAX_BATCH):
                answers[" ".join(line.decode().split()[: 2 if line.startswith(b"ERR") else 1])] += 1
    return answers


async def _fill(http: httpx.AsyncClient) -> int:
    """Publish messages of the maximum size to one topic after the other until the log is full. Returns their number."""
    body = b"x" * (1 << 20)
    for number in range(1_000):
        answer = await http.post(f"/topics/topic.{number}/messages", content=body)
        if answer.status_code == 507:
            assert answer.json()["code"] == "log_full"
            return number
        assert answer.status_code == 201
    raise AssertionError("the log is never full")
