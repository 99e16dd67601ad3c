"""Snapshots in Redis: a node starts from one, and the stream has only what came after it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.log.snapshot.frames import CHUNK_BYTES
from app.messages.position import Last
from app.storage.replicated import snapshots
from app.storage.replicated.fold_snapshot import digest, take
from app.storage.replicated.journal import JournalLost
from tests.cluster.conftest import Node, node, url
from tests.redis_server import RedisServer, redis_server
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


async def log_larger_than_memory(stack: AsyncExitStack, redis: RedisServer) -> list[Node]:
    """Two nodes that have started from a snapshot, so they cannot give back the entries before it."""
    async with node(url(redis)) as before:
        await before.publish("1", LARGE, "2")
        await save_snapshot(before)
    nodes = [await stack.enter_async_context(node(url(redis))) for _ in range(2)]
    await nodes[0].publish("3")
    await nodes[1].until_stored("1", LARGE, "2", "3")
    return nodes


async def goes_on(redis: RedisServer, nodes: list[Node]) -> None:
    """Nothing was lost, nobody has noticed, and Redis has it all again."""
    before = await nodes[0].stored(Last(1))
    await nodes[1].publish("4")
    for one in nodes:
        await one.until_stored("1", LARGE, "2", "3", "4")
        assert not one.replaced
        assert [message.data for message in one.delivered] == [b"3", b"4"]
    assert before == (["3"], None)
    async with node(url(redis)) as new:
        assert (await new.stored())[0] == ["1", LARGE, "2", "3", "4"]
        assert digest(new.engine._fold) == digest(nodes[0].engine._fold)


@pytest.mark.parametrize("loss", ["restart", "FLUSHALL"])
async def test_an_empty_redis_gets_a_snapshot_of_a_node_where_entries_are_not_enough(
    redis: RedisServer, loss: str
) -> None:
    async with AsyncExitStack() as stack:
        nodes = await log_larger_than_memory(stack, redis)
        if loss == "restart":
            redis.kill()
            redis.start()
        else:
            redis.client.flushall()
        await goes_on(redis, nodes)
        assert sum(one.engine.journal.healed_entries for one in nodes) > 3
        assert not redis.client.exists("{plainmq:test}:restoring")


async def test_a_promoted_replica_gets_a_snapshot_where_entries_are_not_enough() -> None:
    with redis_server() as redis, redis_server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        async with node(url(redis)):
            pass  # an epoch has begun
        replica.until(lambda: replica.is_level_with(redis))
        replica.lag()
        async with AsyncExitStack() as stack:
            nodes = await log_larger_than_memory(stack, redis)
            replica.take_over(redis)
            await goes_on(redis, nodes)


async def test_a_node_does_not_begin_while_another_gives_a_snapshot_back(redis: RedisServer) -> None:
    """The other one has died meanwhile, so its turn ends by itself."""
    redis.client.set("{plainmq:test}:restoring", "1", ex=4)
    async with node(url(redis), new_node_pause=0.1) as one:
        assert not redis.client.exists("{plainmq:test}:restoring")
        await one.publish("1")


async def test_a_snapshot_is_given_back_by_the_next_node_if_the_first_one_dies(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        nodes = await log_larger_than_memory(stack, redis)
        with redis.client.pipeline() as both:
            both.flushall()
            both.set("{plainmq:test}:restoring", "1", ex=2)
            both.execute()
        await goes_on(redis, nodes)


async def test_a_snapshot_of_a_log_that_redis_has_lost_meanwhile_does_not_count(redis: RedisServer) -> None:
    async with node(url(redis)) as one, node(f"redis://127.0.0.1:{redis.port}/1?name=test") as other:
        await one.publish("1", "2", "3")
        fold = one.engine._fold
        await other.engine._journal.save_snapshot(fold.number, fold.link, each([*take(fold)]))
        assert await other.engine._journal.load_snapshot() is None
