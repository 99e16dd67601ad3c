"""A server with several workers, as its users see it: `plainmq serve --workers N`."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.event_stream import Stream
from tests.event_stream import stream as open_stream
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, http_client, start_server
from tests.line_client import lines
from tests.nats_server import nats_server
from tests.redis_server import RedisServer

STEP = 0.05  # seconds between two looks
MANY = 40  # connections: that all of them come to one of two workers happens once in 10^12 runs
STARTED = re.compile(r"worker started worker=(\d+) pid=(\d+)")


def on(redis: RedisServer, *flags: str) -> list[str]:
    return ["--engine", f"redis://127.0.0.1:{redis.port}/0?name=demo", *flags]


@contextmanager
def two_workers(redis: RedisServer, *flags: str) -> Iterator[ServerProcess]:
    with start_server(*on(redis, "--workers", "2", *flags)) as server:
        yield server


def pids(server: ServerProcess) -> dict[int, int]:
    """Of the workers at the start, by number."""
    return {int(number): int(pid) for number, pid in STARTED.findall(server.banner)}


def records(server: ServerProcess) -> list[str]:
    """The log after the start; the server must have ended."""
    assert server.process.stderr
    return server.process.stderr.read().splitlines()


async def retried(server: ServerProcess, method: str, path: str, **options: Any) -> httpx.Response:
    """On a new connection each time, until a worker has answered."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                async with http_client(server.url) as http:
                    answer = await http.request(method, path, **options)
            except (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
                continue  # the worker was killed; a connection is never refused
            if answer.status_code not in {503, 504}:
                return answer
            await asyncio.sleep(STEP)


async def metrics(server: ServerProcess) -> dict[tuple[str, ...], float]:
    text = (await retried(server, "GET", "/metrics")).text
    return {
        (sample.name.removeprefix("plainmq_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(server: ServerProcess, **expected: float) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            now = await metrics(server)
            if {name: now[name,] for name in expected} == expected:
                return
            await asyncio.sleep(STEP)


async def many_streams(server: ServerProcess, stack: AsyncExitStack) -> list[Stream]:
    return [await stack.enter_async_context(open_stream(server, "/topics/foo/stream")) for _ in range(MANY)]


def by_worker(records: list[str], message: str) -> list[str]:
    """The workers whose log has such a record."""
    return sorted(re.findall(rf" {message} .*worker=(\d)$", "\n".join(records), re.MULTILINE))


async def test_connections_are_spread_over_workers_and_each_record_names_its_worker(redis: RedisServer) -> None:
    with two_workers(redis, "--access-log", "all", "--log-format", "json") as server:
        async with AsyncExitStack() as stack:
            streams = await many_streams(server, stack)
            for number in range(MANY):
                answer = await retried(server, "POST", "/topics/foo/messages", content=f"{number}")
                assert answer.status_code == 201
            for one in streams:
                assert await one.data(MANY) == [f"{number}" for number in range(MANY)]
        async with lines(server) as line:
            line.send("pub foo last")
            assert (await line.next()).startswith(b"OK")
        assert await asyncio.to_thread(server.stop) == 0
        found = [json.loads(record) for record in records(server)]
    for message in ("request", "stream ended", "draining"):
        workers = [record["worker"] for record in found if record["message"] == message]
        assert {*workers} == {1, 2}, message
        assert message == "draining" or min(workers.count(1), workers.count(2)) > MANY // 10
    assert [record["message"] for record in found if "worker" not in record] == ["stopping", "stopped"]


async def test_a_killed_worker_loses_nothing_confirmed_and_comes_back(redis: RedisServer) -> None:
    with two_workers(redis) as server:
        confirmed: list[str] = []
        killed = asyncio.Event()

        async def publish(name: str) -> None:
            for number in range(100):
                body = f"{name}-{number}"
                headers = {"Idempotency-Key": f'"{body}"'}
                answer = await retried(server, "POST", "/topics/foo/messages", content=body, headers=headers)
                confirmed.append(answer.json()["id"])
                if len(confirmed) == 100:
                    os.kill(pids(server)[1], signal.SIGKILL)
                    killed.set()

        async with open_stream(server, "/topics/foo/stream?since=earliest"):
            await asyncio.gather(*(publish(uuid4().hex) for _ in range(4)))
        assert killed.is_set()
        stored = (await retried(server, "GET", "/topics/foo/messages?limit=1000")).json()["messages"]
        assert sorted(message["id"] for message in stored) == sorted(confirmed)
        assert len({message["data"] for message in stored}) == 400, "no key was published twice"
        await until(server, workers=2, worker_restarts_total=1)
        assert await asyncio.to_thread(server.stop) == 0
        ended = [record for record in records(server) if "worker ended" in record]
        assert len(ended) == 1
        assert "worker=1" in ended[0]
        assert "signal=SIGKILL" in ended[0]


async def test_workers_may_share_a_log_on_jetstream() -> None:
    with nats_server() as nats:
        engine = f"{nats.url}?name=demo"
        with start_server("--workers", "2", "--engine", engine) as server:
            async with AsyncExitStack() as stack:
                streams = await many_streams(server, stack)
                for number in range(MANY):
                    await retried(server, "POST", "/topics/foo/messages", content=f"{number}")
                for one in streams:
                    assert await one.data(MANY) == [f"{number}" for number in range(MANY)]
            assert await asyncio.to_thread(server.stop) == 0
            assert by_worker(records(server), "draining") == ["1", "2"]


async def test_metrics_are_those_of_all_workers_and_no_counter_runs_backward(redis: RedisServer) -> None:
    with two_workers(redis) as server:
        async with AsyncExitStack() as stack:
            streams = await many_streams(server, stack)
            for number in range(10):
                await retried(server, "POST", "/topics/foo/messages", content=f"{number}")
            for one in streams:
                await one.take(10)
            seen = [await metrics(server) for _ in range(10)]
            for now in seen:
                assert now["subscribers", "stream"] == MANY
                assert now["messages_published_total",] == 10
                assert now["messages_delivered_total",] == 10 * MANY
                assert now["workers",] == 2
                assert now["messages",] == 10
            answers = [now["http_requests_total", "2xx"] for now in seen]
            assert answers == [*range(MANY + 10, MANY + 20)]
            os.kill(pids(server)[2], signal.SIGKILL)
            await until(server, workers=2, worker_restarts_total=1)
            for number in range(10):
                await retried(server, "POST", "/topics/foo/messages", content=f"{number}")
        after = await metrics(server)
        assert after["messages_published_total",] == 20
        assert after["messages_delivered_total",] >= 10 * MANY
        assert after["http_requests_total", "2xx"] >= answers[-1] + 10
        before = seen[-1]
        counters = [key for key in before if key[0].endswith(("_total", "_count", "_bucket"))]
        assert [key for key in counters if after[key] < before[key]] == []


async def test_statistics_and_limits_are_those_of_all_workers(redis: RedisServer) -> None:
    with two_workers(redis, "--max-subscribers", "100") as server:
        async with AsyncExitStack() as stack:
            await many_streams(server, stack)
            started = set()
            for _ in range(10):
                stats = (await retried(server, "GET", "/stats")).json()
                assert stats["now"]["subscribers"] == MANY
                assert stats["now"]["connections"] == MANY + 1
                started.add(stats["server"]["started"])
                limits = (await retried(server, "GET", "/server")).json()["limits"]
                (subscribers,) = (limit for limit in limits if limit["name"] == "subscribers")
                assert (subscribers["used"], subscribers["limit"]) == (MANY, 200)
            assert len(started) == 1, "when the server started, not a worker"
            async with open_stream(server, "/stats/stream") as viewer:
                (event,) = await viewer.take(1)
                assert json.loads(event.data)["subscribers"] == MANY


async def test_subscribers_of_all_workers_are_listed_page_by_page_in_the_order_of_arrival(redis: RedisServer) -> None:
    with two_workers(redis) as server:
        async with AsyncExitStack() as stack:
            for number in range(MANY):
                await stack.enter_async_context(open_stream(server, f"/topics/foo.{number}/stream"))
            listed: list[dict[str, Any]] = []
            after = 0
            while after is not None:
                page = (await retried(server, "GET", f"/subscribers?limit=15&after={after}")).json()
                assert page["total"] == MANY
                listed += page["subscribers"]
                after = page["next"]
        ids = [one["id"] for one in listed]
        assert ids == sorted({*ids})
        assert [topic for one in listed for topic in one["topics"]] == [f"foo.{number}" for number in range(MANY)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_streams_of_all_workers_in_good_order(
    redis: RedisServer, number: signal.Signals
) -> None:
    with two_workers(redis) as server:
        async with AsyncExitStack() as stack:
            streams = await many_streams(server, stack)
            os.kill(server.process.pid, number)
            for one in streams:
                (bye,) = await one.take(1)
                assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "draining"})
                assert await one.next() is None
        assert await asyncio.to_thread(server.process.wait, DEADLINE) == 0
        found = records(server)
        assert by_worker(found, "draining") == ["1", "2"]
        assert not [record for record in found if "worker ended" in record]
        assert " stopped " in found[-1]


async def test_a_second_signal_ends_all_workers_at_once(redis: RedisServer) -> None:
    with two_workers(redis, "--drain-timeout", "1h") as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf ")
        async with AsyncExitStack() as stack:
            streams = await many_streams(server, stack)
            server.process.send_signal(signal.SIGTERM)
            for one in streams:
                assert (await one.take(1))[0].type == "bye"
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, DEADLINE) == 1
        async with asyncio.timeout(DEADLINE):
            assert await reader.read() == b"" or writer.is_closing()
        writer.close()
        for pid in pids(server).values():
            await ends(pid)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def ends(pid: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while is_running(pid):  # noqa: ASYNC110  # of another process
            await asyncio.sleep(STEP)


async def test_workers_end_when_the_process_that_started_them_was_killed(redis: RedisServer) -> None:
    with two_workers(redis) as server:
        server.process.kill()
        for pid in pids(server).values():
            await ends(pid)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((server.host, server.port))
            sock.listen()


async def test_a_worker_that_is_told_to_stop_drains_while_another_takes_its_connections(redis: RedisServer) -> None:
    with two_workers(redis) as server:
        async with AsyncExitStack() as stack:
            streams = await many_streams(server, stack)
            os.kill(pids(server)[1], signal.SIGTERM)
            ended = asyncio.gather(*(one.next() for one in streams), return_exceptions=True)
            await ends(pids(server)[1])
            for _ in range(MANY):
                async with http_client(server.url) as http:
                    assert (await http.get("/readyz")).status_code == 200
            ended.cancel()
        await until(server, workers=2, worker_restarts_total=1)


async def test_sighup_is_for_all_workers(redis: RedisServer) -> None:
    with two_workers(redis) as server:
        server.process.send_signal(signal.SIGHUP)
        nothing = "there is nothing to read again"
        said: list[str] = []
        assert server.process.stderr
        while sum(nothing in line for line in said) < 2:
            said.append(await asyncio.to_thread(server.process.stderr.readline))
        assert {*re.findall(rf"{nothing}.* worker=(\d)", "".join(said))} == {"1", "2"}


async def test_the_first_token_is_made_once_and_good_at_every_worker(redis: RedisServer, tmp_path: Path) -> None:
    with two_workers(redis, "--auth", "required", "--data-dir", str(tmp_path)) as server:
        assert server.banner.count("There was no token") == 1
        assert server.banner.count("plainmq 0") == 1
        headers = {"Authorization": f"Bearer {(tmp_path / 'first-token').read_text().strip()}"}
        for _ in range(MANY):
            assert (await retried(server, "GET", "/topics", headers=headers)).status_code == 200
            assert (await retried(server, "GET", "/topics")).status_code == 401


async def test_a_token_that_is_made_at_one_worker_is_good_at_every_other_one(
    redis: RedisServer, tmp_path: Path
) -> None:
    with two_workers(redis, "--auth", "required", "--data-dir", str(tmp_path)) as server:
        headers = {"Authorization": f"Bearer {(tmp_path / 'first-token').read_text().strip()}"}
        made = await retried(server, "POST", "/tokens", headers=headers, json={"name": "new", "subscribe": ["**"]})
        assert made.status_code == 201
        headers = {"Authorization": f"Bearer {made.json()['token']}"}
        for _ in range(MANY):
            assert (await retried(server, "GET", "/topics/foo/messages", headers=headers)).status_code in {200, 404}


async def test_a_ticket_of_one_worker_opens_one_stream_at_any(redis: RedisServer, tmp_path: Path) -> None:
    flags = ["--auth", "required", "--max-failed-logins", "0"]
    with two_workers(redis, *flags, "--data-dir", str(tmp_path)) as server:
        headers = {"Authorization": f"Bearer {(tmp_path / 'first-token').read_text().strip()}"}
        for _ in range(MANY // 4):
            ticket = (await retried(server, "POST", "/tickets", headers=headers)).json()["ticket"]
            path = f"/topics/foo/stream?timeout=0&ticket={ticket}"
            assert (await retried(server, "GET", path)).status_code == 200
            refused = 0
            async with asyncio.timeout(DEADLINE):  # the other worker is told of it, in a moment
                while refused < MANY // 4:
                    refused = refused + 1 if (await retried(server, "GET", path)).status_code == 401 else 0


# Starts that fail


def failed_start(*flags: str) -> str:
    """The sentence of the error."""
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", *flags]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    (sentence,) = re.findall(r"Error: (.*)", run.stderr)
    return str(sentence)


@pytest.mark.parametrize("engine", ["memory", "sqlite:log.db"])
def test_workers_without_a_log_that_they_share_are_refused(engine: str) -> None:
    refused = failed_start("--workers", "2", "--engine", engine)
    assert "--workers (PLAINMQ_WORKERS) is 2: expected 1 with the engine" in refused
    assert "--engine redis://" in refused


def test_another_server_that_is_told_to_start_workers_does_not_start() -> None:
    environment = os.environ | {"PLAINMQ_WORKERS": "2", "PLAINMQ_TCP_PORT": "0"}
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert run.returncode == 3
    assert "only `plainmq serve` starts workers" in run.stderr


def test_a_worker_that_cannot_start_ends_the_server_with_its_sentence(redis: RedisServer, tmp_path: Path) -> None:
    wrong = tmp_path / "tokens"
    wrong.write_text("x")
    wrong.chmod(0o600)
    assert "line 1 of" in failed_start(*on(redis, "--workers", "2", "--tokens", str(wrong)))
    unreachable = ["--engine", f"redis://127.0.0.1:{free_port()}/0", "--journal-timeout", "500ms"]
    assert "cannot be reached" in failed_start("--workers", "2", *unreachable)


@pytest.mark.parametrize("flag", ["--port", "--tcp-port"])
def test_a_port_of_another_server_with_workers_is_refused_before_any_starts(redis: RedisServer, flag: str) -> None:
    with two_workers(redis) as server:
        port = server.port if flag == "--port" else server.tcp_port
        refused = failed_start(*on(redis, "--workers", "2", flag, str(port)))
        assert f"cannot listen on 127.0.0.1:{port}" in refused
        assert f"choose another {flag}" in refused


async def test_a_worker_that_cannot_start_again_is_tried_again_while_another_serves(redis: RedisServer) -> None:
    with two_workers(redis, "--journal-timeout", "500ms") as server:
        async with AsyncExitStack() as stack:
            streams = await many_streams(server, stack)
            await retried(server, "POST", "/topics/foo/messages", content="kept")
            for one in streams:
                await one.take(1)  # then both workers have it
        redis.kill()
        os.kill(pids(server)[1], signal.SIGKILL)
        said = ""
        assert server.process.stderr
        while "worker ended worker=1 " not in said or "cannot be reached" not in said:
            said = await asyncio.to_thread(server.process.stderr.readline)
        assert (await retried(server, "GET", "/topics/foo/messages")).json()["messages"][0]["data"] == "kept"
        redis.start()
        async with asyncio.timeout(DEADLINE):
            while "worker started worker=1 " not in said:
                said = await asyncio.to_thread(server.process.stderr.readline)
        await until(server, workers=2)
