"""The disk fails, and then works again: nothing is confirmed that is not stored, reads go on, no restart is needed.

Real servers on real files. A full disk is a small one of its own (which takes a mount: root only), or a limit that
SQLite keeps; an input/output error is the kernel's, at a limit of the file's size; a lock is another program's.
"""

import asyncio
import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import LogFull, PlainmqError, StorageFailed
from app.log.directory import ListQuery
from app.log.state import LogStateMachine
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, parse_lease_id
from app.messages.message import Delivery, Receipt
from app.storage.sqlite.file import StoreFile, Synchronous
from app.storage.sqlite.state import SORTS, read_notes
from tests.engines.conftest import drafts_text
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, draft, http_client, start_server
from tests.storage.reopening import LogFile, OpenedStore, append, page
from tests.storage.stored_messages import kept

BODY = b"x" * 20_000
ROOMY = ("--max-messages", "1000000", "--max-bytes", "1GiB", "--min-free-disk", "0B")


class Ledger:
    """What one publisher was told of each of its messages, which are numbered."""

    def __init__(self, http: httpx.AsyncClient, topic: str = "a") -> None:
        self.http = http
        self.topic = topic
        self.stored: list[str] = []
        self.refused: list[tuple[int, str]] = []
        self._number = 0

    async def publish(self) -> httpx.Response:
        self._number += 1
        body = b"%06d " % self._number + BODY
        answer = await self.http.post(f"/topics/{self.topic}/messages", content=body)
        if answer.status_code == 201:
            self.stored.append(answer.json()["id"])
        else:
            self.refused.append((answer.status_code, answer.json()["code"]))
        return answer

    async def until(self, status: int) -> httpx.Response:
        """Publish until that is the answer. What is stored meanwhile takes as long as the machine needs for it."""
        async with asyncio.timeout(DEADLINE) as deadline:
            while (answer := await self.publish()).status_code != status:
                if answer.status_code == 201:
                    deadline.reschedule(asyncio.get_running_loop().time() + DEADLINE)
        return answer

    async def check(self) -> None:
        """All that was confirmed is there, in its order, and nothing that was refused."""
        assert await self.ids() == self.stored

    async def ids(self) -> list[str]:
        ids: list[str] = []
        since = "earliest"
        while True:
            answer = await self.http.get(f"/topics/{self.topic}/messages", params={"since": since, "limit": 1_000})
            found = [message["id"] for message in answer.raise_for_status().json()["messages"]]
            if not found:
                return ids
            ids += found
            since = found[-1]


@asynccontextmanager
async def ledger(server: ServerProcess) -> AsyncIterator[Ledger]:
    async with http_client(server.url) as http:
        yield Ledger(http)


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk cannot be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_refuses_publishes_until_there_is_room(small_disk: Path) -> None:
    foreign = small_disk / "somebody-elses"
    foreign.write_bytes(bytes(8 << 20))
    with start_server("--engine", f"sqlite:{small_disk}/log.db", *ROOMY) as server:
        async with ledger(server) as book, stream(server, "/topics/a/stream?since=earliest") as events:
            full = await book.until(507)
            assert full.json()["code"] == "log_full"
            assert "the disk is full" in full.json()["detail"]
            await book.check()
            assert [event.last_event_id for event in await events.take(len(book.stored))] == book.stored
            assert (await book.http.get("/topics/a")).json()["messages"] == len(book.stored)
            foreign.unlink()
            await book.until(201)
            await book.check()
            assert [event.last_event_id for event in await events.take(1)] == book.stored[-1:]
            assert set(book.refused) == {(507, "log_full")}
        assert server.stop() == 0
    with start_server("--engine", f"sqlite:{small_disk}/log.db", *ROOMY) as server:
        async with ledger(server) as again:
            assert await again.ids() == book.stored


async def test_below_min_free_disk_only_publishes_are_refused(small_disk: Path) -> None:
    """What it keeps free is there for what makes room: acks, settings and the end of a topic."""
    flags = (*ROOMY[:-1], "4MiB")
    with start_server("--engine", f"sqlite:{small_disk}/log.db", *flags) as server:
        async with ledger(server) as book:
            await book.publish()
            lease = (await book.http.post("/topics/a/groups/g/pull")).json()["messages"][0]["lease"]
            refused = await book.until(507)
            assert (refused.json()["code"], "min_free_disk" in refused.json()["detail"]) == ("log_full", True)
            await book.check()
            settled = await book.http.post("/topics/a/groups/g/ack", json={"ids": [lease]})
            assert settled.json()["results"] == {lease: "done"}
            assert (await book.http.delete("/topics/a/groups/g")).status_code == 204
            assert (await book.http.put("/topics/a", json={"max_messages": 3})).status_code < 300
            await book.until(201)
            assert await book.ids() == book.stored[-3:]
            assert (await book.http.delete("/topics/a")).status_code == 204
            assert set(book.refused) == {(507, "log_full")}


# An input/output error


@contextmanager
def failing_disk(server: ServerProcess, path: Path) -> Iterator[None]:
    """No file of the server's can grow: the kernel says EFBIG, SQLite "disk I/O error"."""
    pid, unlimited = server.process.pid, resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, unlimited[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)


async def test_a_disk_with_errors_refuses_publishes_until_it_works_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with start_server("--engine", f"sqlite:{path}", *ROOMY) as server:
        async with ledger(server) as book, stream(server, "/topics/a/stream?since=earliest") as events:
            await book.until(201)
            with failing_disk(server, path):
                failed = await book.until(503)
                assert (failed.json()["code"], failed.headers["Retry-After"]) == ("storage_failed", "5")
                await book.check()
                assert (await book.http.delete("/topics/a")).status_code == 503
                assert [event.last_event_id for event in await events.take(len(book.stored))] == book.stored
            await book.until(201)
            await book.check()
            assert [event.last_event_id for event in await events.take(1)] == book.stored[-1:]
            assert set(book.refused) == {(503, "storage_failed")}


# Another program's lock


async def test_while_another_program_has_the_file_locked_reads_go_on(tmp_path: Path) -> None:
    await locked_for(0.0, tmp_path / "log.db")


@pytest.mark.slow
async def test_half_a_minute_of_another_programs_lock_is_no_more_than_a_short_one(tmp_path: Path) -> None:
    await locked_for(30.0, tmp_path / "log.db")


async def locked_for(seconds: float, path: Path) -> None:
    """Under a publisher and a worker that go on all the time."""
    with start_server("--engine", f"sqlite:{path}") as server:
        async with ledger(server) as book, stream(server, "/topics/a/stream") as events:
            for _ in range(3):
                await book.until(201)
            lease = (await book.http.post("/topics/a/groups/g/pull?lease=10m")).json()["messages"][0]["lease"]
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                end = time.monotonic() + seconds
                while not book.refused or time.monotonic() < end:
                    refused = await book.publish()
                    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("storage_failed", "5")
                    await book.check()
                settled = await book.http.post("/topics/a/groups/g/ack", json={"ids": [lease]})
                assert settled.status_code == 503
                other.execute("ROLLBACK")
            await book.until(201)
            await book.check()
            assert [event.last_event_id for event in await events.take(4)] == book.stored
            settled = await book.http.post("/topics/a/groups/g/ack", json={"ids": [lease]})
            assert settled.json()["results"] == {lease: "done"}


# Seen from nearer: the engine


class LoopLag:
    """How long the event loop was away at most, in seconds; printed, for a figure."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        step = 0.001
        last = time.perf_counter()
        while True:
            await asyncio.sleep(step)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - step)
            last = now


@pytest.fixture
async def loop_lag(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    loop_lag = LoopLag()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(loop_lag.beat())
        yield
        task.cancel()
    print(f"{request.node.name}: the event loop was away for at most {1_000 * loop_lag.longest:.1f} ms")


class WriterPragmas:
    """SQLite's settings of the writer's own connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._files: list[StoreFile] = []
        opened = self._files

        class RecordedFile(StoreFile):
            def __init__(self, path: Path, synchronous: Synchronous) -> None:
                super().__init__(path, synchronous)
                opened.append(self)

        monkeypatch.setattr("app.storage.sqlite.transactions.StoreFile", RecordedFile)

    async def set(self, node: OpenedStore, name: str, value: str) -> None:
        await node.engine.inspect(lambda _: self._files[-1].db.execute(f"PRAGMA {name} = {value}"))

    async def get(self, node: OpenedStore, name: str) -> str:
        (value,) = await node.engine.inspect(lambda _: self._files[-1].db.execute(f"PRAGMA {name}").fetchone())
        return str(value)


@pytest.fixture
def pragmas(monkeypatch: pytest.MonkeyPatch) -> WriterPragmas:
    return WriterPragmas(monkeypatch)


def agreed(core: LogStateMachine, db: sqlite3.Connection) -> None:
    """The core says what the file says: each note, each message, and no more."""
    for kind, notes in read_notes(db).items():
        for key, note in notes.items():
            assert SORTS[kind].find(core, *key) == note, (kind, key)
    assert sorted(core.log.topics) == [name for (name,) in read_notes(db)["topic"]]
    seqs = [message.seq for message in kept(db)]
    assert [message.seq for run in core.log.messages.after(0) for message in run.messages] == seqs
    assert sum(topic.messages.live for topic in core.log.topics.values()) == len(seqs)


async def compare(node: OpenedStore, path: Path) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)) as db:
        await node.engine.inspect(lambda core: agreed(core, db))


async def busy_node(node: OpenedStore) -> None:
    """Some of everything that is noted."""
    await node.engine.configure_group("a", "g", {"max_deliveries": 1})
    await append(node, "a", *map(str, range(50)))
    await append(node, "a", "keyed", key="k")
    await append(node, "a", "short", ttl=5.0)
    await append(node, "one", "for one", delivery=Delivery.ONE)
    await node.engine.append([draft("later", b"x", delay=10.0)])
    leases = await node.engine.claim("a", "g", count=3, nbytes=1 << 20, seconds=5.0)
    await node.engine.settle("a", "g", Action.ACK, [parse_lease_id(leases[0].id)])
    await append(node, "dropped", "x")
    await node.engine.drop("dropped")


LIMITS = Limits(Retention(60, 1 << 30, 1e6), total_bytes=1 << 40)


@pytest.mark.usefixtures("loop_lag")
async def test_what_a_full_disk_refused_is_as_if_it_had_never_been(tmp_path: Path, pragmas: WriterPragmas) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open(LIMITS) as node:
        await busy_node(node)
        await compare(node, log_file.path)
        before = await page(node, "a")
        await pragmas.set(node, "max_page_count", await pragmas.get(node, "page_count"))
        log_file.clock.now += 20.0  # so that all that waits is due: leases, a death, a ttl, a delayed message
        verbs = [node.engine.append([draft("a", bytes(100_000))]) for _ in range(30)]
        told = await asyncio.gather(*verbs, return_exceptions=True)
        assert {type(answer) for answer in told} == {LogFull}
        assert (await page(node, "a")).messages[:50] == before.messages[:50]
        await compare(node, log_file.path)
        await pragmas.set(node, "max_page_count", "1000000")
        await works_again(node)
        await compare(node, log_file.path)


async def works_again(node: OpenedStore) -> Receipt:
    """Ask until it takes something: after a failure it does not try for a moment."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await append(node, "a", "again")
            except PlainmqError:
                await asyncio.sleep(0)


@pytest.mark.usefixtures("loop_lag")
async def test_a_fault_of_the_disk_at_the_commit_leaves_nothing_half_done(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open(LIMITS) as node:
        await busy_node(node)
        with closing(sqlite3.connect(log_file.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            node.delivered.clear()
            log_file.clock.now += 20.0
            verbs: list[asyncio.Future[Any]] = [
                node.engine.append([draft("new", b"x")]),
                node.engine.drop("a"),
                node.engine.configure("one", {"max_messages": 7}),
                node.engine.claim("a", "g", count=1, nbytes=1, seconds=1.0),
            ]
            told = await asyncio.gather(*verbs, return_exceptions=True)
            assert {type(answer) for answer in told} == {StorageFailed}
            assert node.delivered == []
            await compare(node, log_file.path)
            other.execute("ROLLBACK")
        receipt = await works_again(node)
        assert receipt.id.endswith(f"-{node.delivered[-1].seq}")
        await compare(node, log_file.path)


async def test_what_was_handed_to_one_before_a_failure_is_not_handed_out_again(tmp_path: Path) -> None:
    """That it is gone is written when the disk takes it, though nobody asks for it again; and no other goes for it."""
    log_file = LogFile(tmp_path)
    async with log_file.open(Limits(Retention(max_messages=3))) as node:
        node.takers = 1
        await append(node, "one", *"abc")
        with closing(sqlite3.connect(log_file.path, isolation_level=None, check_same_thread=False)) as other:
            node.before_delivery = lambda: other.execute("BEGIN EXCLUSIVE")
            await append(node, "one", "x", delivery=Delivery.ONE)
            with pytest.raises(StorageFailed):
                await append(node, "one", "y")
            node.engine.taken([node.delivered[-1].seq])
            node.before_delivery = None
            other.execute("ROLLBACK")
        await works_again(node)
        assert drafts_text((await page(node, "one", take=True)).messages) == ["a", "b", "c"]
        assert (await node.engine.topic("one")).messages == 3


async def test_what_changes_nothing_is_answered_while_the_disk_takes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pragmas: WriterPragmas
) -> None:
    caplog.set_level("INFO", "plainmq")
    log_file = LogFile(tmp_path)
    async with log_file.open(Limits(Retention(max_messages=3))) as node:
        await node.engine.configure_group("b", "g", {})
        for _ in range(3):  # so that something has gone, and is in the file
            await append(node, "a", *"12")
        await pragmas.set(node, "query_only", "ON")
        with pytest.raises(StorageFailed):
            await append(node, "a", "x")
        async with asyncio.timeout(DEADLINE):
            while True:
                with suppress(StorageFailed):  # after a failure it does not try for a moment
                    await node.engine.group("b", "g")
                    break
        assert node.engine.failures == 1
        assert "storage recovered" not in caplog.text  # nothing was written: nobody knows
        await pragmas.set(node, "query_only", "OFF")
        await works_again(node)
        await node.engine.topics(ListQuery())  # the writer tells of it behind its answer
        assert "storage recovered" in caplog.text


def fail_halfway(core: LogStateMachine) -> None:
    core.log.topics.clear()
    raise ZeroDivisionError


async def test_a_fault_in_one_request_does_not_affect_others(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open() as node:
        first, last = node.engine.append([draft("a", b"1")]), node.engine.append([draft("a", b"2")])
        fault = node.engine.inspect(fail_halfway)
        third = node.engine.append([draft("a", b"3")])
        answers = await asyncio.gather(first, last, fault, third, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Receipt, Receipt, ZeroDivisionError, Receipt]
        assert [message.data for message in (await page(node, "a")).messages] == [b"1", b"2", b"3"]
        await compare(node, log_file.path)
