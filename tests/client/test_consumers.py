"""Workers of a group: what they have done is acked, what they have not is given back."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from app import AsyncClient, Client, Closed, Job, LeaseExpired, MessagesLost, NotFound, Worker
from tests.client.test_threads import Elsewhere, program, until
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server

GROUP = "workers"


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def state(client: Client, topic: str) -> tuple[int, int, int, int]:
    group = client.group(topic, GROUP)
    return group.ready, group.leased, group.delayed, group.acked


def test_asking_for_the_next_job_acks_the_one_before(client: Client, topic: str) -> None:
    client.publish_batch(topic, ["1", "2", "3"])
    done: list[tuple[bytes, int]] = []
    with client.work(topic, GROUP) as jobs:
        for job in jobs:
            assert isinstance(job, Job)
            assert state(client, topic) == (2 - len(done), 1, 0, len(done))
            done.append((job.data, job.attempt))
            if len(done) == 3:
                break
    assert done == [(b"1", 1), (b"2", 1), (b"3", 1)]
    assert state(client, topic) == (0, 0, 0, 3)


def test_an_exception_gives_the_job_back_and_is_seen(client: Client, topic: str) -> None:
    client.publish(topic, "hard")

    def work() -> None:
        with client.work(topic, GROUP) as jobs:
            for job in jobs:
                1 / (job.attempt - 1)

    with pytest.raises(ZeroDivisionError):
        work()
    assert state(client, topic) in ((1, 0, 0, 0), (0, 0, 1, 0))
    with client.work(topic, GROUP) as jobs:
        assert next(jobs).attempt == 2
    assert state(client, topic) == (0, 0, 0, 1)


async def test_workers_of_asyncio_do_the_same(server: ServerProcess, topic: str) -> None:
    async def work(client: AsyncClient) -> None:
        async with client.work(topic, GROUP) as jobs:
            async for job in jobs:
                1 / (job.data != b"2")

    async with AsyncClient(server.url) as client:
        await client.publish_batch(topic, ["1", "2"])
        with pytest.raises(ZeroDivisionError):
            await work(client)
        group = await client.group(topic, GROUP)
        assert (group.acked, group.leased) == (1, 0)
        async with asyncio.timeout(DEADLINE), client.work(topic, GROUP) as jobs:
            assert (await anext(jobs)).attempt == 2
        assert [group.acked for group in await client.groups(topic)] == [2]


async def test_a_task_that_is_cancelled_gives_its_job_back(server: ServerProcess, topic: str) -> None:
    begun = asyncio.Event()

    async def work(client: AsyncClient) -> None:
        async with client.work(topic, GROUP) as jobs:
            async for _ in jobs:
                begun.set()
                await asyncio.Event().wait()

    async with AsyncClient(server.url) as client, asyncio.timeout(DEADLINE):
        await client.publish(topic, "x")
        task = asyncio.create_task(work(client))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.group(topic, GROUP)).leased == 0


def test_a_job_can_be_settled_before_the_next_is_asked_for(client: Client, topic: str) -> None:
    client.publish_batch(topic, ["1", "2"])
    with client.work(topic, GROUP, lease=60) as jobs:
        first = next(jobs)
        jobs.extend(lease="10m")
        jobs.ack()
        assert state(client, topic) == (1, 0, 0, 1)
        second = next(jobs)
        jobs.nack(delay="1h")
        assert state(client, topic) == (0, 0, 1, 1)
    assert (first.data, second.data) == (b"1", b"2")
    assert state(client, topic) == (0, 0, 1, 1)


def test_an_expired_lease_is_reported_and_the_work_goes_on(server: ServerProcess, topic: str) -> None:
    told: list[str] = []
    with Client(server.url, tell=told.append) as client:
        client.publish_batch(topic, ["1", "2"])
        with client.work(topic, GROUP) as jobs:
            first = next(jobs)
            client.nack(topic, GROUP, first, delay="1h")
            assert next(jobs).data == b"2"
    (sentence,) = told
    assert first.id in sentence
    assert "was over before its ack" in sentence


KILLED = """
with client.work(topic, "workers", lease="1s") as jobs:
    for job in jobs:
        print("begun", flush=True)
        sys.stdin.read()
"""


def test_what_a_killed_worker_had_begun_another_does(client: Client, server: ServerProcess, topic: str) -> None:
    client.publish_batch(topic, ["1", "2"])
    source = f"import sys\nfrom app import Client\nclient = Client({server.url!r})\ntopic = {topic!r}\n{KILLED}"
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
    with client.work(topic, GROUP) as jobs:
        assert [(job.data, job.attempt) for job in (next(jobs), next(jobs))] == [(b"2", 1), (b"1", 2)]


def test_a_restart_of_the_server_in_the_middle_of_a_job_does_not_bring_it_twice(tmp_path: Path) -> None:
    port, told, flags = free_port(), list[str](), ("--engine", f"sqlite:{tmp_path / 'log.db'}")
    seen = []
    with (
        Client(f"http://127.0.0.1:{port}", tell=told.append) as client,
        client.work("jobs", GROUP) as jobs,
    ):
        with start_server(*flags, port=port, tcp_port=0) as server:
            client.publish_batch("jobs", ["1", "2", "3"])
            seen.append(next(jobs))
            server.stop()
        asking = Elsewhere(lambda: next(jobs))  # the ack, and the next job
        until(lambda: told)
        with start_server(*flags, port=port, tcp_port=0):
            seen += [asking.done(), next(jobs)]
            jobs.ack()
            assert client.group("jobs", GROUP).acked == 3
    assert [(job.data, job.attempt) for job in seen] == [(b"1", 1), (b"2", 1), (b"3", 1)]


def test_workers_in_threads_share_the_jobs_and_are_closed_from_outside(client: Client, topic: str) -> None:
    client.publish_batch(topic, [f"{number}" for number in range(40)])
    done: list[bytes] = []
    everything = threading.Event()

    made = [client.work(topic, GROUP) for _ in range(4)]

    def work(worker: Worker) -> None:
        with worker as jobs:
            for job in jobs:
                done.append(job.data)
                if len(done) == 40:
                    everything.set()

    threads = [Elsewhere(partial(work, worker)) for worker in made]
    assert everything.wait(DEADLINE)
    for jobs in made:
        jobs.close()
    assert [thread.done() for thread in threads] == [None] * 4
    assert sorted(done, key=int) == [b"%d" % number for number in range(40)]
    assert state(client, topic) == (0, 0, 0, 40)


STOPPED = """
with client.work(topic, "workers") as jobs:
    signal.signal(signal.SIGTERM, lambda *_: jobs.close())
    for job in jobs:
        print(job.text, flush=True)
print("stopped", client.group(topic, "workers").acked)
"""


def test_a_worker_is_stopped_in_good_order_by_a_handler_of_signals(
    client: Client, server: ServerProcess, topic: str
) -> None:
    client.publish(topic, "1")
    with program(f"import signal\n{STOPPED}", server, topic) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=DEADLINE) == ("stopped 1\n", "")


def test_a_worker_whose_client_is_closed_ends_and_says_what_is_not_acked(server: ServerProcess, topic: str) -> None:
    def work(client: Client) -> None:
        with client.work(topic, GROUP) as jobs:
            for _ in jobs:
                client.close()

    with Client(server.url) as client:
        client.publish(topic, "x")
        with pytest.raises(Closed):
            work(client)


def test_jobs_are_pulled_and_settled_by_hand(client: Client, topic: str) -> None:
    client.publish_batch(topic, ["1", "2", "3"])
    first, second, third = client.pull(topic, GROUP, lease="1m")
    assert client.extend(topic, GROUP, first, lease="2m") == {first.lease: "done"}
    assert client.ack(topic, GROUP, [first, second.id]) == {first.lease: "done", second.id: "done"}
    assert client.nack(topic, GROUP, third.lease, delay=3600) == {third.lease: "done"}
    with pytest.raises(LeaseExpired) as caught:
        client.ack(topic, GROUP, third)
    assert caught.value.results == {third.lease: "expired"}
    assert len(client.pull(topic, GROUP)) == 0


def test_a_long_pull_waits_for_the_first_job(client: Client, topic: str) -> None:
    pulled = Elsewhere(lambda: client.pull(topic, GROUP, wait=20))
    until(lambda: client.publish(topic, "x").index >= 0 and not pulled.is_alive())
    assert next(iter(pulled.done())).data == b"x"


def test_a_group_is_made_changed_and_deleted(client: Client, topic: str) -> None:
    gone = f"{topic}.gone"
    made = client.set_group(topic, GROUP, start="earliest", ack_timeout=90, max_deliveries=1, dead_letter=gone)
    assert (made.start, made.ack_timeout, made.max_deliveries, made.dead_letter) == ("earliest", "90s", 1, gone)
    client.publish(topic, "x")
    (job,) = client.pull(topic, GROUP)
    client.nack(topic, GROUP, job, reason="no paper")
    (dead,) = client.messages(gone)
    assert dead.dead
    assert (dead.dead.id, dead.dead.group, dead.dead.reason) == (job.id, GROUP, "no paper")
    client.delete_group(topic, GROUP)
    with pytest.raises(NotFound):
        client.group(topic, GROUP)


def test_what_was_gone_when_the_group_was_made_is_raised_once(client: Client, topic: str) -> None:
    client.set_topic(topic, max_messages=2)
    for number in range(5):
        client.publish(topic, f"{number}")
    with client.work(topic, GROUP) as jobs:
        with pytest.raises(MessagesLost, match="trimmed"):
            next(jobs)
        assert [next(jobs).data, next(jobs).data] == [b"3", b"4"]
