"""Snapshots in JetStream: a node starts from one, and the stream has only what came after it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from secrets import token_hex

import pytest

from app.storage.replicated import snapshots
from app.storage.replicated.fold_snapshot import digest, take
from app.storage.replicated.journal import JournalLost
from tests.cluster.conftest import Node, node
from tests.cluster.test_redis_snapshots import LARGE, save_snapshot
from tests.engines.nats_journal import shared_nats
from tests.storage.replicated.test_snapshots import each


@pytest.fixture
def name() -> str:
    """Of a log."""
    return token_hex(8)


def url(name: str) -> str:
    return f"{shared_nats().url}?name={name}"


def chunks(name: str) -> set[str]:
    """Their subjects."""
    subjects = f"plainmq.{name}.snapshot.chunk.>"
    found = shared_nats().ask(f"STREAM.INFO.plainmq-snapshots-{name}", subjects_filter=subjects)
    return {*(found["state"].get("subjects") or ())}


async def test_a_node_starts_from_a_snapshot_and_what_follows_it(name: str) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(name)))
        await first.publish("1", LARGE, f"{LARGE}2", f"{LARGE}3")
        await save_snapshot(first)
        assert len(chunks(name)) > 1
        await first.publish("4")
        second = await stack.enter_async_context(node(url(name)))
        assert [*map(len, (await second.stored())[0])] == [1, len(LARGE), len(LARGE) + 1, len(LARGE) + 1, 1]
        assert not second.delivered
        await second.publish("5")
        await first.until_stored("1", LARGE, f"{LARGE}2", f"{LARGE}3", "4", "5")
        assert digest(first.engine._fold) == digest(second.engine._fold)


async def test_a_node_that_was_away_while_entries_were_trimmed_starts_from_the_snapshot(name: str) -> None:
    server = shared_nats()
    async with node(url(name)) as first, node(url(name)) as late:
        await first.publish("1")
        await late.until_stored("1")
        late.engine._journal._current().connection.lose(JournalLost("the test has cut it"))  # type: ignore[attr-defined]
        await first.publish("2", "3")
        await save_snapshot(first)
        assert server.ask(f"STREAM.INFO.plainmq-log-{name}")["state"]["messages"] <= 1
        await late.until_stored("1", "2", "3")
        await late.publish("4")
        await first.until_stored("1", "2", "3", "4")
        assert digest(first.engine._fold) == digest(late.engine._fold)


async def test_a_snapshot_takes_the_place_of_an_older_one_and_never_of_a_newer(name: str) -> None:
    async with node(url(name)) as one:
        await one.publish("1")
        old = (one.engine._fold.number, one.engine._fold.link, each([*take(one.engine._fold)]))
        await one.publish("2")
        await save_snapshot(one)
        newest = chunks(name)
        await one.engine._journal.save_snapshot(*old)
        assert chunks(name) == newest
        await one.publish("3")
        await save_snapshot(one)
        assert len(chunks(name)) == 1
        assert not chunks(name) & newest


async def test_a_snapshot_that_is_not_finished_is_none_and_is_removed_with_the_next(name: str) -> None:
    async with node(url(name)) as one:
        await one.publish(LARGE, f"{LARGE}1", f"{LARGE}2")
        fold, journal = one.engine._fold, one.engine._journal

        async def cut_short() -> AsyncIterator[bytes]:
            yield next(take(fold))
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await journal.save_snapshot(fold.number, fold.link, cut_short())
        assert await journal.load_snapshot() is None
        (unfinished,) = chunks(name)
        await save_snapshot(one)
        assert unfinished not in chunks(name)


async def test_a_snapshot_that_is_replaced_while_it_is_read_is_read_again(name: str) -> None:
    async with node(url(name)) as one:
        await one.publish(LARGE, f"{LARGE}1", f"{LARGE}2")
        await save_snapshot(one)
        snapshot = await one.engine._journal.load_snapshot()
        assert snapshot is not None
        await anext(snapshot.chunks)
        await one.publish("3")
        await save_snapshot(one)
        with pytest.raises(JournalLost, match="replaced"):
            await anext(snapshot.chunks)


async def saved(node: Node) -> None:
    await node.until(lambda: node.engine._follower.snapshots._saving is None)


async def test_one_of_the_nodes_makes_each_snapshot(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOT_ENTRIES", 200)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(name)))
        second = await stack.enter_async_context(node(url(name)))
        for part in range(4):
            await first.publish(*[f"{part}.{number}" for number in range(200)])
            await saved(first)
            await saved(second)
        log = shared_nats().ask(f"STREAM.INFO.plainmq-log-{name}")["state"]
        assert log["messages"] < first.engine._fold.number - 200
        assert len(chunks(name)) == 1
        third = await stack.enter_async_context(node(url(name)))
        assert third.engine._fold.number >= 800
        assert not third.delivered
        await third.publish("last")
        await first.until(lambda: first.delivered[-1].data == b"last")
