"""What nodes make of a Redis that restarts, loses its data, is replaced by its replica, stops or is full."""

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from app.errors import LogFull, OutcomeUnknown, StorageFailed
from app.messages.message import parse_id
from tests.cluster.conftest import Node, all_have, load, node, url
from tests.harness import draft
from tests.redis_server import RedisServer, redis_server, sentinel


async def two_nodes(stack: AsyncExitStack, redis: RedisServer) -> tuple[Node, Node]:
    return await stack.enter_async_context(node(url(redis))), await stack.enter_async_context(node(url(redis)))


async def test_a_message_that_one_node_accepts_is_delivered_by_all_in_one_order(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        first, second = await two_nodes(stack, redis)
        await asyncio.gather(*(one.retried(f"{n}") for n, one in enumerate([first, second] * 20)))
        await second.until(lambda: len(first.delivered) == len(second.delivered) == 40)
        assert [message.data for message in first.delivered] == [message.data for message in second.delivered]
        assert first.engine.epoch == second.engine.epoch
        assert [message.seq for message in second.delivered] == [*range(1, 41)]


async def test_a_restart_with_a_file_of_all_writes_loses_nothing() -> None:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
        async with AsyncExitStack() as stack:
            first, second = await two_nodes(stack, redis)
            before = await first.publish("1", "2", "3")
            redis.kill()
            redis.start()
            await first.publish("4")
            await second.until_stored("1", "2", "3", "4")
            assert await second.after(before.id) == (["4"], None)
            assert not first.replaced + second.replaced
            assert first.engine.epoch != parse_id(before.id).epoch, "a new life of the primary is a new epoch"


@pytest.mark.parametrize("loss", ["restart", "FLUSHALL"])
async def test_nodes_give_back_all_that_an_empty_redis_has_lost(redis: RedisServer, loss: str) -> None:
    async with AsyncExitStack() as stack:
        first, second = await two_nodes(stack, redis)
        before = await first.publish("1", "2", "3")
        await second.until_stored("1", "2", "3")
        if loss == "restart":
            redis.kill()
            redis.start()
        else:
            redis.client.flushall()
        await second.publish("4")
        await first.until_stored("1", "2", "3", "4")
        assert await first.after(before.id) == (["4"], None)
        third = await stack.enter_async_context(node(url(redis)))
        assert (await third.stored())[0] == ["1", "2", "3", "4"], "it is in Redis again"
        assert first.engine.journal.healed_entries + second.engine.journal.healed_entries
        assert not first.replaced + second.replaced


async def test_a_deleted_log_is_noticed_and_given_back_without_a_publish(redis: RedisServer) -> None:
    async with node(url(redis)) as one:
        await one.publish("1")
        redis.client.flushall()
        await one.until(lambda: redis.client.exists("{plainmq:test}:log") == 1)
        async with node(url(redis)) as other:
            assert (await other.stored())[0] == ["1"]


async def test_nodes_give_back_what_a_promoted_replica_lacks() -> None:
    with redis_server() as redis, redis_server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        replica.until(lambda: replica.is_level_with(redis))
        async with AsyncExitStack() as stack:
            first, second = await two_nodes(stack, redis)
            before = await first.publish("1")
            replica.until(lambda: replica.is_level_with(redis))
            replica.lag()
            await first.publish("2", "3")
            await second.until_stored("1", "2", "3")
            replica.take_over(redis)
            await second.publish("4")
            await first.until_stored("1", "2", "3", "4")
            assert await first.after(before.id) == (["2", "3", "4"], None)
            assert not first.replaced + second.replaced


async def test_readers_past_what_a_failover_has_lost_get_a_gap_and_others_do_not() -> None:
    """No node has the entries: it is a new one that begins."""
    with redis_server() as redis, redis_server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        async with node(url(redis)) as one:
            kept = await one.publish("kept")
            replica.until(lambda: replica.is_level_with(redis))
            replica.lag()
            lost = await one.publish("lost")
        replica.take_over(redis)
        async with node(url(replica)) as one:
            await one.publish("new")
            assert await one.after(kept.id) == (["new"], None)
            _, gap = await one.after(lost.id)
            assert gap is not None
            assert gap.reason == "epoch"


async def test_what_an_old_primary_accepts_when_another_is_promoted_is_lost_and_its_readers_are_told() -> None:
    with redis_server() as redis, redis_server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        async with node(url(redis)) as old:
            kept = await old.publish("kept")
            replica.until(lambda: replica.is_level_with(redis))
            replica.follow(None)
            async with node(url(replica)) as new:
                await new.publish("new")
                lost = await old.publish("lost")
                replica.take_over(redis)
                await old.until(lambda: old.replaced == 1)
                await old.publish("both")
                await new.until_stored("kept", "new", "both")
                await old.until_stored("kept", "new", "both")
                assert await old.after(kept.id) == (["new", "both"], None)
                _, gap = await old.after(lost.id)
                assert gap is not None
                assert gap.reason == "epoch"
                assert not new.replaced


async def test_a_message_that_only_an_old_primary_has_is_not_confirmed_as_replicated() -> None:
    with redis_server() as redis, redis_server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        replica.until(lambda: replica.is_level_with(redis))
        async with node(url(redis), "replicated:1") as old:
            await old.publish("kept")
            replica.follow(None)
            with pytest.raises(OutcomeUnknown):
                await old.engine.append([draft("t", b"lost")])


async def test_a_primary_that_stops_for_a_while_answers_late_and_reads_go_on(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        first, second = await two_nodes(stack, redis)
        await first.publish("1")
        await second.until_stored("1")
        with redis.stopped():
            late = first.engine.append([draft("t", b"2")])
            await asyncio.sleep(2.0)
            assert (await second.stored())[0] == ["1"], "a node answers from its own memory"
            assert not late.done()
        await late
        await second.until_stored("1", "2")


async def test_what_is_on_its_way_when_redis_does_not_answer_is_unknown_and_what_comes_later_is_refused(
    redis: RedisServer,
) -> None:
    async with node(url(redis), timeout=0.5) as one:
        await one.publish("1")
        with redis.stopped():
            with pytest.raises(OutcomeUnknown, match="unknown whether"):
                await one.engine.append([draft("t", b"2")])
            with pytest.raises(StorageFailed, match="nothing was stored"):
                await one.engine.append([draft("t", b"3")])
        await one.publish("4")
        assert (await one.stored())[0] in (["1", "2", "4"], ["1", "4"])


async def test_a_publish_to_a_full_redis_is_refused_and_accepted_when_there_is_room(redis: RedisServer) -> None:
    async with node(url(redis)) as one:
        await one.publish("1")
        redis.client.config_set("maxmemory", 1)
        with pytest.raises(LogFull, match="memory of Redis is full"):
            await one.engine.append([draft("t", b"2")])
        assert (await one.stored())[0] == ["1"]
        redis.client.config_set("maxmemory", 0)
        await one.engine.append([draft("t", b"3")])
        assert (await one.stored())[0] == ["1", "3"]


async def test_what_is_due_while_redis_is_full_is_done_when_there_is_room(redis: RedisServer) -> None:
    async with node(url(redis)) as one:
        await one.engine.append([draft("t", b"delayed", delay=0.3)])
        redis.client.config_set("maxmemory", 1)
        await asyncio.sleep(0.5)  # until it is due
        assert not one.delivered
        redis.client.config_set("maxmemory", 0)
        await one.until(lambda: len(one.delivered) == 1)


async def test_a_message_that_too_few_replicas_have_is_unknown(redis: RedisServer) -> None:
    with redis_server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        replica.until(lambda: replica.is_level_with(redis))
        async with node(url(redis), "replicated:1") as one:
            assert one.engine.durability == "redis:replicated:1"
            await one.publish("1")
            replica.lag()
            with pytest.raises(OutcomeUnknown, match="replicated:1"):
                await one.engine.append([draft("t", b"2")])
            replica.follow(redis)
            replica.until(lambda: replica.is_level_with(redis))
            await one.engine.append([draft("t", b"3")])
            assert (await one.stored())[0] == ["1", "2", "3"]


async def test_a_server_of_redis_that_writes_to_its_disk_each_second_confirms_that_when_it_has() -> None:
    """WAITAOF is of Redis 7.2 and of Valkey: set REDIS_SERVER."""
    with redis_server("--appendonly", "yes", "--appendfsync", "everysec") as redis:
        if "waitaof" not in redis.client.command_list():
            pytest.skip("this Redis does not have WAITAOF")
        async with node(url(redis), "disk") as one:
            assert one.engine.durability == "redis:disk"
            await one.publish("1")
            redis.kill()
            redis.start()
            await one.publish("2")
            assert (await one.stored())[0] == ["1", "2"]


async def test_a_server_of_redis_that_writes_each_entry_to_its_disk_confirms_that() -> None:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
        async with node(url(redis), "disk") as one:
            assert one.engine.durability == "redis:disk"
            await one.publish("1")


async def test_restarts_without_a_file_under_load_lose_and_repeat_nothing(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        nodes = await two_nodes(stack, redis)
        async with load(nodes) as accepted:
            for _ in range(3):
                before = len(accepted)
                await nodes[0].until(lambda before=before: len(accepted) >= before + 200)  # type: ignore[misc]
                redis.kill()
                redis.start()
        await all_have(nodes, accepted)


@pytest.mark.slow
async def test_twenty_failovers_by_sentinel_under_load_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """Prints the longest time without an accepted publish, for each."""
    with ExitStack() as servers:
        primary = servers.enter_context(redis_server())
        replica = servers.enter_context(redis_server("--replicaof", "127.0.0.1", str(primary.port)))
        replica.until(lambda: replica.is_level_with(primary))
        port = servers.enter_context(sentinel(primary, tmp_path))
        async with AsyncExitStack() as stack:
            address = f"redis+sentinel://127.0.0.1:{port}/main/0?name=test"
            nodes = [await stack.enter_async_context(node(address)) for _ in range(2)]
            async with load(nodes) as accepted:
                for _ in range(20):
                    before, begun = len(accepted), time.monotonic()
                    primary.kill()
                    await nodes[0].until(lambda before=before: len(accepted) > before + 8)  # type: ignore[misc]
                    print(f"without service: {time.monotonic() - begun:.2f} s, accepted {len(accepted)}")
                    primary, replica = replica, primary
                    replica.start("--replicaof", "127.0.0.1", str(primary.port))
                    await asyncio.to_thread(replica.until, lambda: replica.is_level_with(primary))  # noqa: B023
            await all_have(nodes, accepted)
