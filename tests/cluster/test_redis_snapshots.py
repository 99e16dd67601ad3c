"""Snapshots in Redis: a node starts from one, and the stream has only what came after it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.log.snapshot.frames import CHUNK_BYTES
from app.storage.replicated import snapshots
from app.storage.replicated.fold_snapshot import digest, take
from app.storage.replicated.journal import JournalLost
from tests.cluster.conftest import Node, node, url
from tests.redis_server import RedisServer
from tests.storage.replicated.test_snapshots import each, until

LARGE = "x" * (CHUNK_BYTES // 2)


async def save_snapshot(node: Node) -> None:
    fold, journal = node.engine._fold, node.engine._journal
    number, link, taken = fold.number, fold.link, [*take(fold)]  # before more is carried out
    await journal.save_snapshot(number, link, each(taken))
    await journal.trim(number + 1)


def chunks(redis: RedisServer) -> set[str]:
    return {*redis.client.scan_iter("*:snapshot:*")}


async def test_a_node_starts_from_a_snapshot_and_what_follows_it(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(redis)))
        await first.publish("1", LARGE, f"{LARGE}2", f"{LARGE}3")
        await save_snapshot(first)
        assert len(chunks(redis)) > 1
        await first.publish("4")
        second = await stack.enter_async_context(node(url(redis)))
        assert [*map(len, (await second.stored())[0])] == [1, len(LARGE), len(LARGE) + 1, len(LARGE) + 1, 1]
        assert not second.delivered
        await second.publish("5")
        await first.until_stored("1", LARGE, f"{LARGE}2", f"{LARGE}3", "4", "5")
        assert digest(first.engine._fold) == digest(second.engine._fold)


async def test_entries_that_are_in_a_snapshot_are_trimmed(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(redis)))
        await first.publish(*[f"{number}" for number in range(250)])
        (log,) = redis.client.scan_iter("*:log")
        before = redis.client.xlen(log)
        await save_snapshot(first)
        assert redis.client.xlen(log) < before / 2, "whole blocks of 100 entries are removed"


async def test_a_snapshot_takes_the_place_of_an_older_one_and_never_of_a_newer(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(redis)))
        await first.publish("1")
        old = (first.engine._fold.number, first.engine._fold.link, each([*take(first.engine._fold)]))
        await first.publish("2")
        await save_snapshot(first)
        newest = chunks(redis)
        await first.engine._journal.save_snapshot(*old)
        assert chunks(redis) == newest
        await first.publish("3")
        await save_snapshot(first)
        assert len(chunks(redis)) == 1
        assert not chunks(redis) & newest
        assert {redis.client.ttl(key) for key in chunks(redis)} == {-1}


async def test_a_snapshot_that_is_not_finished_is_none(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(redis)))
        await first.publish(LARGE, LARGE, LARGE)
        fold, journal = first.engine._fold, first.engine._journal

        async def cut_short() -> AsyncIterator[bytes]:
            yield next(take(fold))
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await journal.save_snapshot(fold.number, fold.link, cut_short())
        assert await journal.load_snapshot() is None
        (left,) = chunks(redis)
        assert redis.client.ttl(left) > 0, "Redis removes it"


async def test_a_snapshot_that_is_replaced_while_it_is_read_is_read_again(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(redis)))
        await first.publish(LARGE, f"{LARGE}1", f"{LARGE}2")
        await save_snapshot(first)
        snapshot = await first.engine._journal.load_snapshot()
        assert snapshot is not None
        await anext(snapshot.chunks)
        await first.publish("3")
        await save_snapshot(first)
        with pytest.raises(JournalLost, match="replaced"):
            await anext(snapshot.chunks)


async def test_one_of_the_nodes_makes_each_snapshot(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOT_ENTRIES", 200)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(url(redis)))
        second = await stack.enter_async_context(node(url(redis)))
        for part in range(4):
            await first.publish(*[f"{part}.{number}" for number in range(200)])
            await until(
                lambda: first.engine._follower.snapshots._saving is second.engine._follower.snapshots._saving is None
            )
        (log,) = redis.client.scan_iter("*:log")
        assert redis.client.xlen(log) < first.engine._fold.number - 200
        assert len(chunks(redis) - {*redis.client.scan_iter("*:snapshot:of:*")}) == 1
        third = await stack.enter_async_context(node(url(redis)))
        assert third.engine._fold.number >= 800
        assert not third.delivered
        await third.publish("last")
        await first.until(lambda: first.delivered[-1].data == b"last")
