"""What nodes make of a NATS server that restarts, loses its streams, stops or is full, and of operators' commands."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex

import pytest

from app.errors import LogFull, OutcomeUnknown, StorageFailed
from app.messages.message import parse_id
from app.storage.replicated.fold_snapshot import digest
from app.storage.unusable import StoreUnusable
from tests.cluster.conftest import Node, all_have, load, node
from tests.cluster.test_redis_snapshots import save_snapshot
from tests.engines.nats_journal import shared_nats
from tests.harness import draft
from tests.nats_server import NatsServer, nats_cluster, nats_server

LOG = "plainmq-log-test"


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """Of this test alone."""
    with nats_server() as server:
        yield server


def url(server: NatsServer, name: str = "test") -> str:
    return f"{server.url}?name={name}"


@asynccontextmanager
async def two_nodes(address: str) -> AsyncIterator[tuple[Node, Node]]:
    async with node(address) as first, node(address) as second:
        yield first, second


async def test_a_message_that_one_node_accepts_is_delivered_by_all_in_one_order() -> None:
    async with two_nodes(url(shared_nats(), token_hex(8))) as (first, second):
        await asyncio.gather(*(one.retried(f"{n}") for n, one in enumerate([first, second] * 20)))
        await second.until(lambda: len(first.delivered) == len(second.delivered) == 40)
        assert [message.data for message in first.delivered] == [message.data for message in second.delivered]
        assert first.engine.epoch == second.engine.epoch
        assert [message.seq for message in second.delivered] == [*range(1, 41)]
        assert digest(first.engine._fold) == digest(second.engine._fold)


async def test_a_large_backlog_is_read_at_the_start() -> None:
    """More than JetStream sends before it is told that all was taken."""
    address = url(shared_nats(), token_hex(8))
    async with node(address) as first:
        for _ in range(12):
            await asyncio.gather(*(first.engine.append([draft("t", bytes(700_000))]) for _ in range(4)))
        async with node(address) as second:
            assert digest(first.engine._fold) == digest(second.engine._fold)


async def test_a_restart_loses_nothing_and_begins_an_epoch(server: NatsServer) -> None:
    async with two_nodes(url(server)) as (first, second):
        before = await first.publish("1", "2", "3")
        server.kill()
        server.start()
        await first.publish("4")
        await second.until_stored("1", "2", "3", "4")
        assert await second.after(before.id) == (["4"], None)
        assert not first.replaced + second.replaced
        assert first.engine.epoch != parse_id(before.id).epoch, "it may have lost what its disk did not have"


async def test_nodes_give_back_all_that_a_server_without_its_files_has_lost(server: NatsServer) -> None:
    async with two_nodes(url(server)) as (first, second):
        before = await first.publish("1", "2", "3")
        await second.until_stored("1", "2", "3")
        server.kill()
        server.forget()
        server.start()
        await second.publish("4")
        await first.until_stored("1", "2", "3", "4")
        assert await first.after(before.id) == (["4"], None)
        async with node(url(server)) as third:
            assert (await third.stored())[0] == ["1", "2", "3", "4"], "it is in JetStream again"
        assert not first.replaced + second.replaced
        assert first.engine.journal.healed_entries + second.engine.journal.healed_entries >= 4


async def test_a_server_without_its_files_gets_a_snapshot_of_a_node_where_entries_are_not_enough(
    server: NatsServer,
) -> None:
    """The nodes have started from a snapshot, so they cannot give back the entries before it."""
    async with node(url(server)) as before:
        await before.publish("1", "2")
        await save_snapshot(before)
    async with two_nodes(url(server)) as (first, second):
        kept = await first.publish("3")
        await second.until_stored("1", "2", "3")
        server.kill()
        server.forget()
        server.start()
        await second.publish("4")
        await first.until_stored("1", "2", "3", "4")
        assert await first.after(kept.id) == (["4"], None)
        assert not first.replaced + second.replaced
        assert first.engine.journal.healed_entries + second.engine.journal.healed_entries > 3
        async with node(url(server)) as third:
            assert (await third.stored())[0] == ["1", "2", "3", "4"]
            assert digest(third.engine._fold) == digest(first.engine._fold)


async def test_readers_past_what_a_server_has_lost_get_a_gap_and_others_do_not(server: NatsServer) -> None:
    """No node has the messages, and the files are those of an older time."""
    async with node(url(server)) as one:
        kept = await one.publish("kept")
    server.kill()
    shutil.copytree(server.folder / "streams", server.folder / "copy")
    server.start()
    async with node(url(server)) as one:
        lost = await one.publish("lost")
    server.kill()
    server.forget()
    (server.folder / "copy").rename(server.folder / "streams")
    server.start()
    async with node(url(server)) as one:
        await one.publish("new")
        assert await one.after(kept.id) == (["new"], None)
        _, gap = await one.after(lost.id)
        assert gap is not None
        assert gap.reason == "epoch"


async def test_nodes_give_back_what_older_files_lack(server: NatsServer) -> None:
    async with node(url(server)) as one:
        await one.publish("1")
        server.kill()
        shutil.copytree(server.folder / "streams", server.folder / "copy")
        server.start()
        before = await one.publish("2", "3")
        server.kill()
        server.forget()
        (server.folder / "copy").rename(server.folder / "streams")
        server.start()
        await one.publish("4")
        assert await one.after(before.id) == (["4"], None)
        async with node(url(server)) as other:
            assert (await other.stored())[0] == ["1", "2", "3", "4"]
        assert not one.replaced


async def test_a_deleted_stream_is_noticed_and_given_back_without_a_publish() -> None:
    server, name = shared_nats(), token_hex(8)
    async with node(url(server, name)) as one:
        await one.publish("1")
        server.ask(f"STREAM.DELETE.plainmq-log-{name}")
        await one.until(lambda: "error" not in server.ask(f"STREAM.INFO.plainmq-log-{name}"))
        async with node(url(server, name)) as other:
            await other.until_stored("1")


async def test_streams_that_are_deleted_under_load_lose_and_repeat_nothing() -> None:
    server, name = shared_nats(), token_hex(8)
    async with two_nodes(url(server, name)) as nodes:
        async with load(nodes) as accepted:
            for _ in range(2):
                before = len(accepted)
                await nodes[0].until(lambda before=before: len(accepted) >= before + 100)  # type: ignore[misc]
                server.ask(f"STREAM.DELETE.plainmq-log-{name}")
        await all_have(nodes, accepted)


async def test_a_stream_that_is_deleted_after_a_snapshot_goes_on_behind_it() -> None:
    server, name = shared_nats(), token_hex(8)
    async with node(url(server, name)) as one:
        await one.publish("1", "2")
        await save_snapshot(one)
        await one.publish("3")
        server.ask(f"STREAM.DELETE.plainmq-log-{name}")
        await one.publish("4")
        assert server.ask(f"STREAM.INFO.plainmq-log-{name}")["state"]["first_seq"] > 1
        async with node(url(server, name)) as other:
            assert (await other.stored())[0] == ["1", "2", "3", "4"]
        assert not one.replaced


async def test_a_purged_stream_is_mended_by_a_snapshot_of_a_node_that_lives() -> None:
    server, name = shared_nats(), token_hex(8)
    async with node(url(server, name)) as one:
        await one.publish("1", "2")
        server.ask(f"STREAM.PURGE.plainmq-log-{name}")
        with pytest.raises(StoreUnusable, match="somebody has removed"):
            async with node(url(server, name)):
                pass
        await one.until(lambda: server.ask(f"STREAM.INFO.plainmq-snapshots-{name}")["state"]["messages"] >= 3)
        await one.until(lambda: one.engine._follower.snapshots._saving is None)
        async with node(url(server, name)) as other:
            assert (await other.stored())[0] == ["1", "2"]
            await other.publish("3")
            await one.until_stored("1", "2", "3")
            assert digest(one.engine._fold) == digest(other.engine._fold)


async def test_a_server_that_stops_for_a_while_answers_late_and_reads_go_on(server: NatsServer) -> None:
    async with two_nodes(url(server)) as (first, second):
        await first.publish("1")
        await second.until_stored("1")
        with server.stopped():
            late = first.engine.append([draft("t", b"2")])
            await asyncio.sleep(2.0)
            assert (await second.stored())[0] == ["1"], "a node answers from its own memory"
            assert not late.done()
        await late
        await second.until_stored("1", "2")


async def test_what_is_on_its_way_when_nats_does_not_answer_is_unknown_and_what_comes_later_is_refused(
    server: NatsServer,
) -> None:
    async with node(url(server), timeout=0.5) as one:
        await one.publish("1")
        with server.stopped():
            with pytest.raises(OutcomeUnknown, match="unknown whether"):
                await one.engine.append([draft("t", b"2")])
            with pytest.raises(StorageFailed, match="nothing was stored"):
                await one.engine.append([draft("t", b"3")])
        await one.publish("4")
        assert (await one.stored())[0] in (["1", "2", "4"], ["1", "4"])


async def test_a_publish_to_a_full_stream_is_refused_and_accepted_when_there_is_room() -> None:
    server, name = shared_nats(), token_hex(8)
    async with node(url(server, name)) as one:
        await one.publish("1")
        server.update(f"plainmq-log-{name}", max_bytes=1_000)
        with pytest.raises(LogFull, match="JetStream is full"):
            await one.engine.append([draft("t", bytes(2_000))])
        assert (await one.stored())[0] == ["1"]
        server.update(f"plainmq-log-{name}", max_bytes=-1)
        await one.engine.append([draft("t", b"3")])
        assert (await one.stored())[0] == ["1", "3"]


async def test_restarts_without_files_under_load_lose_and_repeat_nothing(server: NatsServer) -> None:
    async with two_nodes(url(server)) as nodes:
        async with load(nodes) as accepted:
            for _ in range(3):
                before = len(accepted)
                await nodes[0].until(lambda before=before: len(accepted) >= before + 100)  # type: ignore[misc]
                server.kill()
                server.forget()
                server.start()
        await all_have(nodes, accepted)


async def test_a_leader_of_three_that_is_killed_under_load_loses_and_repeats_nothing() -> None:
    with nats_cluster(3) as servers:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        address = f"nats://{hosts}?name=test&replicas=3"
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(node(address, timeout=10.0)) for _ in range(2)]
            assert nodes[0].engine.durability == "nats:R3"
            async with load(nodes) as accepted:
                await nodes[0].until(lambda: len(accepted) >= 100)
                name = servers[0].ask(f"STREAM.INFO.{LOG}")["cluster"]["leader"]
                (leader,) = [server for server in servers if name == f"n{server.port}"]
                leader.kill()
                before = len(accepted)
                await nodes[0].until(lambda: len(accepted) >= before + 100)
                leader.start()
            await all_have(nodes, accepted)
