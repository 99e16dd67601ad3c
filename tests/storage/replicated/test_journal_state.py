"""What a node says of its journal: in its state, and in the log."""

import asyncio

import pytest

from app.errors import OutcomeUnknown, StorageFailed
from app.log.topic_log import Limits
from app.storage.replicated.engine import ReplicatedEngine
from app.storage.replicated.journal import Head, JournalLost
from tests.engines.conftest import Opened
from tests.engines.local_journal import LocalJournal
from tests.engines.test_contract import append, texts
from tests.harness import draft
from tests.storage.replicated.nodes import Node, nodes, settled
from tests.storage.replicated.test_snapshots import save_snapshot, until


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", "plainmq")
    return caplog


def is_connected(node: Node) -> bool:
    return node.engine.journal.connected


async def test_a_lost_journal_is_logged_once_and_shown_until_it_is_found(logged: pytest.LogCaptureFixture) -> None:
    async with nodes() as cluster:
        node = await cluster.start()
        assert is_connected(node)
        attempts: list[None] = []
        for losses in (1, 2):
            logged.clear()
            node.cut()
            await until(lambda: not is_connected(node))
            attempts.clear()
            node.journal.on_open = lambda: attempts.append(None)
            await until(lambda: len(attempts) >= 3)
            assert (is_connected(node), node.engine.unready, node.engine.failures) == (False, "", losses)
            node.cut(False)
            await until(lambda: is_connected(node))
            assert logged.messages == [
                "the journal was lost", "the journal cannot be reached", "the journal was found again"
            ]  # fmt: skip


async def test_a_start_that_waits_for_the_journal_says_so_once(logged: pytest.LogCaptureFixture) -> None:
    async with nodes() as cluster:
        attempts: list[None] = []

        class Away(LocalJournal):
            async def open(self) -> Head:
                attempts.append(None)
                if len(attempts) < 4:
                    raise JournalLost("it refuses a command")
                return await super().open()

        engine = ReplicatedEngine(Limits(), cluster.clock, Away(cluster.log))
        await engine.open(lambda _runs: {}, Opened(engine, cluster.clock))
        await engine.close()
        assert logged.messages[:1] == ["the journal cannot be reached"]
        assert logged.messages.count("the journal cannot be reached") == 1
        assert "the journal was found again" in logged.messages


async def test_the_state_names_the_nodes_that_are_alive_and_the_newest_entry() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        b = await cluster.start()
        await settled()
        first, second = a.engine.journal, b.engine.journal
        assert first.nodes == second.nodes == [first.node, second.node]
        assert first.entry == second.entry == cluster.log.number
        await a.engine.close()
        await settled()
        assert b.engine.journal.nodes == [second.node]


async def test_the_lag_grows_while_an_entry_of_the_node_does_not_come_back() -> None:
    async with nodes() as cluster:
        node = await cluster.start()
        await append(node, "a", "x")
        before = node.engine.journal
        assert before.lag_entries == 0
        assert before.appends.buckets()[-1][1] == cluster.log.number - 1, "all but the one that began the journal"
        node.hold(True)
        await settled()
        accepted = node.engine.append([draft("a", b"y")])
        await until(lambda: node.engine.journal.lag_seconds > before.lag_seconds)
        late = node.engine.journal.lag_seconds
        await until(lambda: node.engine.journal.lag_seconds > late)
        node.hold(False)
        await accepted
        assert node.engine.journal.lag_entries == 0


async def test_a_journal_that_has_lost_entries_is_a_fork_and_the_log_is_read_again(
    logged: pytest.LogCaptureFixture,
) -> None:
    async with nodes() as cluster:
        node = await cluster.start()
        await append(node, "a", "kept")
        await settled()
        kept = cluster.log.number
        await append(node, "a", "lost")
        await settled()
        logged.clear()
        cluster.log.lose_after(kept)
        await until(lambda: node.engine.journal.forks == 1 and not node.engine.unready)
        assert node.engine.journal.resyncs == 1
        assert await texts(node, "a") == ["kept"]
        begun, lost = (
            "a new epoch of the log has begun",
            "the journal has lost entries that this server had carried out",
        )
        assert [message for message in logged.messages if message in {begun, lost}] == [begun, lost]


async def test_entries_that_are_only_in_a_snapshot_are_no_loss(logged: pytest.LogCaptureFixture) -> None:
    async with nodes() as cluster:
        a, b = await cluster.start(), await cluster.start()
        b.hold(True)
        await append(a, "a", "x")
        await append(a, "a", "y")
        await save_snapshot(a)
        await append(a, "a", "z")
        b.hold(False)
        await until(lambda: b.engine.journal.resyncs == 1 and not b.engine.unready)
        assert b.engine.journal.forks == 0
        assert await texts(b, "a") == ["x", "y", "z"]
        assert "the journal has only a snapshot of the next entries" in logged.messages


async def test_a_publish_while_the_journal_is_lost_is_no_append() -> None:
    async with nodes() as cluster:
        node = await cluster.start()
        await settled()
        node.cut()
        await until(lambda: not is_connected(node))
        before = node.engine.journal.appends.buckets()[-1][1]
        with pytest.raises((StorageFailed, OutcomeUnknown)):
            await asyncio.wait_for(append(node, "a", "x"), 10)
        assert node.engine.journal.appends.buckets()[-1][1] == before
