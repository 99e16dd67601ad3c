"""Servers of two versions on one log: they decide by what both know, and a version that does not know enough stops."""

import re
from typing import Any, get_args

import msgspec
import pytest

from app.errors import Behind, StorageFailed
from app.log.commands.any_command import AnyCommand
from app.log.commands.command import Effect
from app.log.level import LEVEL
from app.log.state import LogStateMachine
from app.storage.replicated.contents import FORMAT, Contents, Writer, decode
from app.storage.replicated.level_in_use import PAUSE
from app.storage.replicated.sessions import SESSION
from app.storage.unusable import StoreUnusable
from tests.engines.test_contract import append, texts
from tests.storage.replicated import golden
from tests.storage.replicated.nodes import Node, Nodes, nodes, settled
from tests.storage.replicated.test_snapshots import save_snapshot, state, until

LATER = LEVEL + 1


class Later(Effect, frozen=True, array_like=True, gc=False, tag="later"):
    """What the next version has."""

    @property
    def level(self) -> int:
        return LATER

    def carry_out(self, core: LogStateMachine, now: float) -> None:
        raise NotImplementedError


def level(node: Node) -> int:
    return node.engine._core.level


async def pass_time(cluster: Nodes, seconds: float, *alive: Node) -> None:
    """All of these nodes go on meanwhile."""
    for _ in range(int(seconds / (SESSION / 3)) + 1):
        cluster.clock.now += SESSION / 3
        for node in alive:
            node.engine._renew()
            await settled()


# The golden journals


@pytest.mark.parametrize("number", range(1, LEVEL + 1))
def test_the_entries_of_each_level_lead_to_what_they_led_to_in_its_first_version(number: int) -> None:
    recorded = golden.read(number)
    assert recorded.level == number
    assert [*golden.folded(recorded)] == recorded.checks, (
        "a decision was changed: that takes a new level (docs/architecture.md). While no release has the level, delete "
        "its file and make it again: python -m tests.storage.replicated.golden"
    )


def test_the_golden_journal_of_the_present_level_has_every_command() -> None:
    tags = {type(command).__name__ for _, data in golden.read(LEVEL).entries for command in decode(data).commands}
    assert tags == {command.__name__ for command in get_args(AnyCommand)}


# A rolling restart


async def test_old_and_new_servers_have_one_state_until_the_last_old_one_has_gone() -> None:
    async with nodes() as cluster:
        old, other = await cluster.start(), await cluster.start()
        await append(old, "a", "1")
        new = await cluster.start(level=LATER)
        await append(new, "a", "2")
        await append(other, "a", "3")
        with pytest.raises(StorageFailed, match="update all servers first"):
            await new.engine._do(Later())
        await settled()
        assert state(old) == state(new) == state(other)
        assert level(new) == level(old) == LEVEL
        await old.engine.close()
        await append(new, "a", "4")
        newest = await cluster.start(level=LATER)
        await other.engine.close()
        await append(new, "a", "5")
        assert level(new) == LEVEL
        await pass_time(cluster, PAUSE, new, newest)
        assert level(new) == level(newest) == LATER
        assert state(new) == state(newest)
        assert await texts(newest, "a") == ["1", "2", "3", "4", "5"]


async def test_a_new_log_uses_the_level_of_its_first_server_at_once() -> None:
    async with nodes() as cluster:
        new = await cluster.start(level=LATER)
        await settled()
        assert level(new) == LATER


async def test_a_journal_that_was_away_for_long_does_not_end_the_time_of_the_old_servers() -> None:
    async with nodes() as cluster:
        old, new = await cluster.start(), await cluster.start(level=LATER)
        await settled()
        cluster.clock.now += 10 * PAUSE
        await append(new, "a", "the session of the other one is over")
        await append(old, "a", "it goes on")
        await pass_time(cluster, 2 * PAUSE, old, new)
        assert level(old) == level(new) == LEVEL
        assert not old.engine.failed


@pytest.mark.parametrize("from_snapshot", [True, False])
async def test_an_old_server_does_not_start_on_a_log_of_a_later_level(from_snapshot: bool) -> None:
    async with nodes() as cluster:
        new = await cluster.start(level=LATER)
        await append(new, "a", "x")
        if from_snapshot:
            await save_snapshot(new)
        sentence = f"level {LATER} of what commands mean, and this version of plainmq knows level {LEVEL}: update"
        with pytest.raises(StoreUnusable, match=re.escape(sentence)):
            await cluster.start()


async def test_an_old_server_that_was_stopped_while_the_others_went_over_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with nodes() as cluster:
        old, new = await cluster.start(), await cluster.start(level=LATER)
        await append(old, "a", "x")
        old.hold(True)
        await pass_time(cluster, 2 * SESSION + PAUSE, new)
        assert level(new) == LATER
        old.hold(False)
        await until(lambda: old.engine.failed)
        assert "update this server" in old.engine.unready
        assert "the log has failed" in caplog.messages
        for refused in (append(old, "a", "y"), texts(old, "a")):
            with pytest.raises((StorageFailed, Behind)):
                await refused
        assert await texts(new, "a") == ["x"]


# What a later version has written


UNKNOWN: dict[str, tuple[Any, str]] = {
    "a command": ((FORMAT, LATER, "n", [["later"]]), "a command that this version does not know"),
    "a format": ((FORMAT + 1, LATER, "n", {"what": "ever"}), f"has the format {FORMAT + 1}"),
    "a format that looks the same": ((FORMAT + 1, LATER, "n", []), f"has the format {FORMAT + 1}"),
    "another program": ("something", "is none of plainmq"),
}


@pytest.mark.parametrize("unknown", UNKNOWN)
async def test_an_entry_that_is_not_known_stops_the_server_and_is_not_skipped(unknown: str) -> None:
    data, sentence = UNKNOWN[unknown]
    async with nodes() as cluster:
        node = await cluster.start()
        await append(node, "a", "x")
        cluster.log.append(b"a link", msgspec.msgpack.encode(data))
        await until(lambda: node.engine.failed)
        assert sentence in node.engine.failed
        assert node.engine._fold.number == cluster.log.number
        with pytest.raises(StoreUnusable, match=sentence):
            await cluster.start()


def test_a_field_that_a_later_version_adds_at_the_end_is_not_read() -> None:
    contents = msgspec.msgpack.decode(Writer("n").encode([]))
    assert isinstance(decode(msgspec.msgpack.encode([*contents, "later"])), Contents)
