"""Retention on a disk: what a topic may keep, in a file that grows and shrinks, by a server whose memory does not."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from app.log.directory import ListQuery
from app.log.topic_log import Limits, Retention
from app.messages.position import EARLIEST, GapReason, Last, Since, Start
from app.messages.topic import TopicFilter
from tests.engines.conftest import drafts_text
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, draft, start_server
from tests.storage.reopening import LogFile, append, everything, page

KIB = "x" * 1_024
BOUNDLESS = ("--max-messages", "10000000", "--max-bytes", "100GiB", "--min-free-disk", "0B", "--stall-timeout", "60s")


# What stays


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(max_messages=3), ["7", "8", "9"]),
        (Retention(max_bytes=2), ["8", "9"]),
        (Retention(max_age=45.0), ["6", "7", "8", "9"]),
    ],
)
async def test_the_newest_stay_by_number_by_size_and_by_age(
    tmp_path: Path, retention: Retention, kept: list[str]
) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open(Limits(retention)) as node:
        for number in range(10):
            await append(node, "a", str(number))
            log_file.clock.now += 10.0
    async with log_file.open(Limits(retention)) as node:
        read = await page(node, "a")
        assert drafts_text(read.messages) == kept
        (state,) = (await node.engine.topics(ListQuery())).items
        assert (state.messages, state.bytes) == (len(kept), len(kept))


async def test_messages_displaced_by_a_delayed_one_go_from_the_file_without_a_query(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open(Limits(Retention(max_messages=1))) as node, asyncio.timeout(DEADLINE):
        await append(node, "a", "old")
        await node.engine.append([draft("a", b"new", delay=0.05)])
        # The writer says nothing when it has tidied up, and a file when it changes.
        while not node.engine.has_vacuumed():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        log_file.clock.now += 1.0
        while drafts_text(node.delivered) != ["old", "new"]:
            node.news.clear()
            await node.news.wait()
        with closing(sqlite3.connect(log_file.path)) as db:
            while db.execute("SELECT data FROM message").fetchall() != [(b"new",)]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_what_grew_old_while_the_server_was_down_is_gone_when_it_is_back(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    limits = Limits(Retention(max_age=100.0))
    async with log_file.open(limits) as node:
        old = await append(node, "a", *map(str, range(2_000)))
        log_file.clock.now += 90.0
        await append(node, "a", "young")
    log_file.clock.now += 20.0
    async with log_file.open(limits) as node:
        read = await page(node, "a")
        assert drafts_text(read.messages) == ["young"]
        reader = TopicFilter(["a"])
        cursor = await node.engine.locate(reader, EARLIEST)
        assert cursor.reported == int(old.last.partition("-")[2])


async def test_trimmed_messages_are_reported_as_a_gap(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open() as node:
        await append(node, "a", *map(str, range(5)))
        reader = TopicFilter(["a"])
        cursor = await node.engine.locate(reader, EARLIEST)
        await node.engine.configure("a", {"max_messages": 1})
        read = await node.engine.read(reader, cursor, limit=10, nbytes=100, take=False)
        assert read.gap is not None
        assert (read.gap.reason, read.gap.missed) == (GapReason.TRIMMED, 4)
        assert drafts_text(read.messages) == ["4"]


async def test_what_retention_took_does_not_come_back_when_the_power_fails(tmp_path: Path) -> None:
    limits = Limits(Retention(max_messages=100))
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        log_file = LogFile(folder, cuts=True)
        starts: list[Start] = [EARLIEST, Last(50), *[Since(log_file.clock.now + seconds) for seconds in range(20)]]
        async with log_file.open(limits) as node:
            for number in range(40):
                await append(node, "a", *[f"{number}.{place}" for place in range(9)])
                log_file.clock.now += 0.5
            before = await everything(node, starts)
        with closing(sqlite3.connect(log_file.path)) as db:
            (oldest,) = db.execute("SELECT data FROM message ORDER BY seq").fetchone()
        if float(oldest[:4]) < 28.8:
            break  # else the file was tidied just before the power failed, which happens once a second
    else:
        pytest.fail("nothing that went is in the file")
    async with log_file.open(limits) as node:
        assert await everything(node, starts) == before
        await append(node, "a", "one more")
        assert drafts_text((await page(node, "a")).messages)[:2] == ["29.0", "29.1"]


async def test_a_lower_default_counts_for_every_topic_from_the_start_on(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open(Limits(Retention(max_messages=5_000))) as node:
        for topic in "abc":
            await append(node, topic, *map(str, range(5_000)))
    async with log_file.open(Limits(Retention(max_messages=10))) as node, asyncio.timeout(DEADLINE):
        while [state.messages for state in (await node.engine.topics(ListQuery())).items] != [10, 10, 10]:
            pass  # nobody publishes


async def test_what_went_is_out_of_the_file_when_the_server_has_stopped(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open(Limits(Retention(max_messages=15))) as node:
        for number in range(10):
            await append(node, "a", *[f"{number}.{place};" for place in range(10)])
    with closing(sqlite3.connect(log_file.path)) as db:
        rows = db.execute("SELECT data FROM message ORDER BY seq").fetchall()
    assert rows == [(b"8.5;8.6;8.7;8.8;8.9;",), (b"9.0;9.1;9.2;9.3;9.4;9.5;9.6;9.7;9.8;9.9;",)]


# The file


@contextmanager
def served(path: Path) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    with (
        start_server("--engine", f"sqlite:{path}", *BOUNDLESS) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE) as http,
    ):
        yield server, http


def fill(http: httpx.Client, topic: str, count: int) -> None:
    """So many messages of 1 KiB, each with its number."""
    for first in range(0, count, 1_000):
        lines = "".join(f'[{number}, "{KIB}"]\n' for number in range(first, first + 1_000))
        headers = {"Content-Type": "application/x-ndjson"}
        http.post(f"/topics/{topic}/messages", content=lines, headers=headers).raise_for_status()


def on_disk(path: Path) -> int:
    return sum(Path(f"{path}{suffix}").stat().st_size for suffix in ("", "-wal"))


def test_the_file_shrinks_when_a_topic_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with served(path) as (_, http):
        fill(http, "big", 20_000)
        full = on_disk(path)
        assert full > 20_000 * 1_024
        assert http.delete("/topics/big").status_code == 204
        end = time.monotonic() + DEADLINE
        while path.stat().st_size > full // 4:  # piece by piece, while nobody asks for anything
            assert http.get("/livez").status_code == 200
            assert time.monotonic() < end, "it shrinks no more"


def test_the_room_of_what_went_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with served(path) as (_, http):
        assert http.put("/topics/ring", json={"max_messages": 1_000}).status_code < 300
        fill(http, "ring", 5_000)
        full = path.stat().st_size
        fill(http, "ring", 20_000)
        assert path.stat().st_size < 2 * full


# Memory


async def test_memory_does_not_grow_with_what_is_on_the_disk(tmp_path: Path) -> None:
    await written_and_read(tmp_path / "log.db", 40_000)


@pytest.mark.slow
async def test_memory_does_not_grow_with_very_much_on_the_disk(tmp_path: Path) -> None:
    await written_and_read(tmp_path / "log.db", 200_000)


ROOM = 80 << 20  # bytes: caches of two times 16 MiB, batches and pages under way, and what the allocator keeps of them


async def written_and_read(path: Path, count: int) -> None:
    """By page, and by stream."""
    with served(path) as (server, http):
        fill(http, "a", 1_000)
        before = server.resident()
        fill(http, "b", count)
        written = server.resident()
        assert numbers(http, "b") == count
        paged = server.resident()
        async with stream(server, "/topics/b/stream?since=earliest") as events:
            for number in range(count):
                event = await events.next()
                assert event is not None
                assert event.data.startswith(f"[{number}, ")
        streamed = server.resident()
        grown = [(after - before) >> 20 for after in (written, paged, streamed)]
        print(f"{count} messages, {on_disk(path) >> 20} MiB on disk; memory grew by {grown} MiB")
        assert max(grown) << 20 < ROOM


def numbers(http: httpx.Client, topic: str) -> int:
    """How many messages there are, read page by page; they must be numbered in their order."""
    count, since = 0, "earliest"
    while True:
        answer = http.get(f"/topics/{topic}/messages", params={"since": since, "limit": 1_000}).raise_for_status()
        found = answer.json()["messages"]
        if not found:
            return count
        assert [json.loads(message["data"])[0] for message in found] == [*range(count, count + len(found))]
        count, since = count + len(found), found[-1]["id"]
