"""The wall clock steps before, during and between the lives of a log: nothing confirmed is over for that."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from app.log.directory import ListQuery
from app.log.topic_log import Limits, Retention
from app.messages.message import Delivery
from app.messages.position import Ago, Since
from app.storage.sqlite.writer import NAMES_CHECK_INTERVAL
from tests.engines.conftest import Opened, drafts_text
from tests.harness import DEADLINE, draft
from tests.storage.reopening import LogFile, append, make_older, page

KEEP = Limits(Retention(max_age=1_000.0))
DAY = 86_400.0
STEPS = (DAY, -DAY)


@pytest.fixture(params=["stopped", "cut"])
def log_file(request: pytest.FixtureRequest, tmp_path: Path) -> LogFile:
    log_file = LogFile(tmp_path, cuts=request.param == "cut")
    log_file.clock.boot = "first"
    return log_file


async def fill(node: Opened) -> None:
    """Something of each kind that ends by itself, after 100 seconds, or 120, or 1,000."""
    await append(node, "old", "1")
    await append(node, "ttl", "1", ttl=100.0)
    await append(node, "one", "1", ttl=100.0, delivery=Delivery.ONE)
    await append(node, "key", "1", key="k")
    await append(node, "work", "1")
    await node.engine.join("work", "g")
    await node.engine.claim("work", "g", count=1, nbytes=1 << 30, seconds=100.0)
    await node.engine.append([draft("late", b"1", delay=100.0)])


async def check_nothing_is_over(node: Opened) -> None:
    assert await node.engine.claim("work", "g", count=1, nbytes=1 << 30, seconds=100.0) == []
    assert (await node.engine.group("work", "g")).leased == 1
    for topic in ("old", "ttl", "key"):
        assert drafts_text((await page(node, topic)).messages) == ["1"]
    assert (await node.engine.topic("one")).messages == 1
    assert (await node.engine.topic("late")).delayed == 1
    assert (await append(node, "key", "1", key="k")).duplicate


async def check_all_is_over(node: Opened) -> None:
    """But what has 1,000 seconds."""
    (lease,) = await node.engine.claim("work", "g", count=1, nbytes=1 << 30, seconds=100.0)
    assert lease.attempt == 2
    assert (await node.engine.topic("late")).delayed == 0
    assert drafts_text((await page(node, "late")).messages) == drafts_text((await page(node, "old")).messages) == ["1"]
    assert (await page(node, "ttl")).messages == (await page(node, "one", take=True)).messages == []
    assert not (await append(node, "key", "1", key="k")).duplicate


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_while_the_server_runs_is_no_time_that_passed_at_the_next_start(
    log_file: LogFile, step: float
) -> None:
    async with log_file.open(KEEP) as node:
        await fill(node)
        log_file.clock.wrong = step
        await append(node, "other", "after the step")
    log_file.clock.now += 90
    log_file.clock.boot = "second"
    async with log_file.open(KEEP) as node:
        await check_nothing_is_over(node)
        log_file.clock.now += 40
        await check_all_is_over(node)


async def test_a_clock_step_is_noted_without_a_query(tmp_path: Path) -> None:
    """A server that is idle when time synchronisation sets the clock, and then loses its power."""
    log_file = LogFile(tmp_path)
    async with log_file.open(KEEP) as node:
        await fill(node)
        await node.engine.topics(ListQuery())
        log_file.clock.wrong = DAY
        with closing(sqlite3.connect(log_file.path)) as db:
            db.execute("PRAGMA query_only = 1")
            await noted(db, log_file.clock.wall())
        await log_file.cut(node)
    log_file.clock.now += 90
    async with log_file.open(KEEP) as node:
        await check_nothing_is_over(node)


async def noted(db: sqlite3.Connection, wall: float) -> None:
    async with asyncio.timeout(DEADLINE + NAMES_CHECK_INTERVAL):
        while True:
            (value,) = db.execute("SELECT value FROM note WHERE kind = 'log'").fetchone()
            if msgspec.msgpack.decode(value)["mark"]["wall"] == wall:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("step", STEPS)
async def test_a_clock_step_between_two_runs_in_one_boot_is_no_time_that_passed(log_file: LogFile, step: float) -> None:
    async with log_file.open(KEEP) as node:
        await fill(node)
    log_file.clock.wrong = step
    log_file.clock.now += 90
    async with log_file.open(KEEP) as node:
        await check_nothing_is_over(node)
        log_file.clock.now += 40
        await check_all_is_over(node)


async def test_a_clock_that_is_behind_after_a_boot_ends_nothing_and_holds_nothing_for_ever(log_file: LogFile) -> None:
    """As on a machine without a battery, which begins in 1970 until it has asked the time."""
    async with log_file.open(KEEP) as node:
        await fill(node)
    log_file.clock.boot, log_file.clock.wrong = "second", -log_file.clock.now
    log_file.clock.now += 50
    async with log_file.open(KEEP) as node:
        await check_nothing_is_over(node)
        log_file.clock.wrong = 0.0  # now it has
        log_file.clock.now += 99
        await check_nothing_is_over(node)
        log_file.clock.now += 30
        await check_all_is_over(node)
        await append(node, "new", "1")
        assert (await page(node, "new")).messages[0].time == log_file.clock.now


async def test_after_a_boot_the_wall_clock_says_how_long_the_machine_was_off(log_file: LogFile) -> None:
    async with log_file.open(KEEP) as node:
        await fill(node)
    log_file.clock.boot = "second"
    log_file.clock.now += 130
    async with log_file.open(KEEP) as node:
        await check_all_is_over(node)
        log_file.clock.now += 871
        assert (await page(node, "old")).messages == []


async def test_times_heal_in_the_next_run_when_the_clock_does(log_file: LogFile) -> None:
    """One message came under a clock that was ahead."""
    log_file.clock.wrong = 500.0
    async with log_file.open(KEEP) as node:
        begin = log_file.clock.now
        await append(node, "a", "1")
    log_file.clock.wrong = 0.0
    async with log_file.open(KEEP) as node:
        log_file.clock.now += 100
        await append(node, "a", "2")
        log_file.clock.now += 401
        await append(node, "a", "3")
        assert [message.time for message in (await page(node, "a")).messages] == [
            begin + 500, begin + 500, begin + 501,
        ]  # fmt: skip
        assert drafts_text((await page(node, "a", start=Ago(402.0))).messages) == ["2", "3"]
        assert drafts_text((await page(node, "a", start=Since(begin + 500.5))).messages) == ["3"]


async def test_what_a_file_of_before_has_stays_though_its_newest_message_is_of_the_future(log_file: LogFile) -> None:
    """It had one time for each message, and no word of the clocks."""
    async with log_file.open(KEEP) as node:
        await append(node, "a", "1")
    note = msgspec.msgpack.decode
    with closing(sqlite3.connect(log_file.path)) as db, db:
        db.create_function("unmarked", 1, lambda value: msgspec.msgpack.encode(note(value) | {"mark": None}))
        db.execute("UPDATE note SET value = unmarked(value) WHERE kind = 'log'")
        make_older(db, 5)
    log_file.clock.wrong = -600.0
    async with log_file.open(KEEP) as node:
        begin = log_file.clock.now
        await append(node, "a", "2")
        log_file.clock.now += 601
        await append(node, "a", "3")
        assert [message.time for message in (await page(node, "a")).messages] == [begin, begin, begin + 1]
        log_file.clock.now += 399
        assert drafts_text((await page(node, "a")).messages) == ["3"]
