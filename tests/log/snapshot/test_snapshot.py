"""A snapshot has the whole state in its order: tests/log/commands/test_determinism.py goes on from snapshots. Here: no
field is forgotten, and what is no snapshot is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pytest

from app.log.epochs import Epochs
from app.log.snapshot.frames import CHUNK_BYTES, in_chunks
from app.log.snapshot.snapshot import FORMAT, NAME, Head, Loader, SnapshotInvalid, digest, load, take
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits
from app.log.trims import TrimMark
from app.messages.message import Draft, Envelope
from tests.harness import whole
from tests.log.commands.random_commands import TOPICS, RandomCommands
from tests.log.commands.state_dump import dump, fields
from tests.log.commands.test_determinism import LIMITS, NODES, STEPS, carry_out, fresh

NEVER: Final[dict[tuple[str, str], str]] = {
    ("TopicLog", "published"): "a meter: the rate of the last seconds, which answers alone use, begins anew",
    ("Group", "acks"): "likewise",
    ("Log", "counters"): "of groups that are being created: only between two slices of a command",
    ("SingleDelivery", "_new"): "of the outbox, which has been taken",
    ("SingleDelivery", "returned"): "likewise",
    ("LogStateMachine", "_runs"): "likewise",
    ("LogStateMachine", "level"): "there is only one so far",
    ("LogStateMachine", "_to_trim"): "likewise",
    ("Groups", "_events"): "likewise",
    ("GroupEvents", "ended"): "likewise",
    ("GroupEvents", "ready"): "likewise",
    ("InFlight", "settled"): "only in the records of a file",
}
"""Fields that a state between two commands has with one value only, each with the reason."""


def states() -> Iterator[LogStateMachine]:
    """A state machine after every few of many commands, and with what is rarely left to do between two."""
    for seed in (1, 2, 3):
        commands, clock, core, now = RandomCommands(seed), Random(seed), fresh(), 1e9
        for number in range(1_500):
            now += clock.choice(STEPS)
            command = commands.next()
            commands.answered(command, *carry_out(core, command, now, clock.choice(NODES)))
            commands.head = core.log.head
            if number % 20 == 0:
                yield core
        yield _busy(core)


def _busy(core: LogStateMachine) -> LogStateMachine:
    """In an order that is not that of the letters."""
    topics, groups = dict.fromkeys(["t4", "t1"]), dict.fromkeys([("t4", "h"), ("t1", "g")])
    core.trimmer.over_retention, core.log.groups_to_check = topics, {**topics}
    core.groups.closing, core.groups.dead_letter_pending, core.groups.starved = groups, {**groups}, {**groups}
    core.groups.settled.skipped += 1
    core.log.trim_marks.floor = TrimMark(5, 1.5, 2, -1, 2.5)
    core.log.clock.record = msgspec.structs.replace(core.log.clock.record, ahead=2.5, next_check=7.5)
    for topic in core.log.topics.values():
        for group in topic.unacked.groups.values() if topic.unacked is not None else ():
            group.closing = True
            group.skipped, group.jobs.ended_leases = group.skipped + 1, [(9, 2), (8, 1)]
            group.jobs.dead_letter_pending = dict.fromkeys([9, 8])
    return core


def test_every_field_of_the_state_is_in_a_snapshot() -> None:
    """Each field must have had two values at least, or it is among those that never have."""
    values: dict[tuple[str, str], set[str]] = {}
    for core in states():
        assert dump(load(take(core), LIMITS)) == dump(core)
        for kind, name, value in fields(core):
            known = values.setdefault((kind, name), set())
            if not callable(value) and len(known) < 2:
                known.add(dump(value))
    assert {field for field, known in values.items() if len(known) == 1} == NEVER.keys()


def test_a_state_has_the_digest_of_its_snapshot_and_of_what_is_loaded_from_it() -> None:
    for core in states():
        loader = Loader(LIMITS)
        for chunk in take(core):
            whole(loader.feed(chunk))
        assert loader.digest == digest(core) == digest(loader.finish())


def empty() -> LogStateMachine:
    return LogStateMachine(Limits(), Epochs("e0"), MemoryMessageStore())


def _in_order(first: str, second: str) -> LogStateMachine:
    core = empty()
    core.trimmer.over_retention = dict.fromkeys([first, second])
    return core


def test_states_that_differ_in_an_order_have_different_digests() -> None:
    assert digest(_in_order("a", "b")) == digest(_in_order("a", "b")) != digest(_in_order("b", "a"))


# Chunks


def with_bodies(*sizes: int) -> LogStateMachine:
    core = empty()
    for size in sizes:
        core.append([Draft(Envelope("t"), [b"x" * size])], 1.0)
    core.trim()
    core.take_outbox()
    return core


@pytest.mark.parametrize("sizes", [(), (10,), (CHUNK_BYTES,), (5 * CHUNK_BYTES, 1), (1,) * 900, (300_000,) * 20])
def test_chunks_have_the_same_size_whatever_the_messages(sizes: tuple[int, ...]) -> None:
    core = with_bodies(*sizes)
    *full, last = take(core)
    assert {len(chunk) for chunk in full} <= {CHUNK_BYTES}
    assert len(last) <= CHUNK_BYTES
    assert dump(load([*full, last], Limits())) == dump(core)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_snapshot_can_be_cut_anywhere(size: int) -> None:
    core = with_bodies(10, 2_000, 10)
    data = b"".join(take(core))
    assert dump(load([data[at : at + size] for at in range(0, len(data), size)], Limits())) == dump(core)


def test_a_snapshot_is_restored_in_small_steps() -> None:
    core = with_bodies(*[100] * 5_000)
    loader, steps, most = Loader(Limits()), 0, 0
    before = 0
    for chunk in take(core):
        for _ in loader.feed(chunk):
            there = sum(topic.messages.live for topic in loader._restored.core.log.topics.values())
            most, before, steps = max(most, there - before), there, steps + 1
    assert before == 1_000  # as many as the topic keeps
    assert most < before
    assert steps > 5


# What is refused


def _flipped(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "a bit has changed": _flipped,
    "the end is missing": lambda data: data[:-1],
    "all records of the end are missing": lambda data: data[: data.rindex(b"\xa3end") - 9],
    "nothing is there": lambda _data: b"",
    "something follows": lambda data: data + b"\0",
    "a part is missing": lambda data: b"".join(
        in_chunks([msgspec.msgpack.encode(Head(NAME, FORMAT)), data[data.rindex(b"\xa3end") - 1 :]])
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_refused(damage: str) -> None:
    data = b"".join(take(with_bodies(10, 20)))
    with pytest.raises(SnapshotInvalid, match=r"damaged|missing"):
        load([DAMAGES[damage](data)], Limits())


def test_a_snapshot_of_another_format_is_refused_with_a_sentence() -> None:
    chunks = in_chunks([msgspec.msgpack.encode([NAME, FORMAT + 1, "and what else a later version has there"])])
    with pytest.raises(SnapshotInvalid) as refused:
        load(chunks, Limits())
    assert str(refused.value) == (
        "the snapshot has format 2, and this version of plainmq reads format 1 only: start a version that reads it"
    )


@pytest.mark.parametrize("frame", [b"", b"\x93", msgspec.msgpack.encode(["another", 1]), msgspec.msgpack.encode(1)])
def test_what_is_no_snapshot_is_refused(frame: bytes) -> None:
    with pytest.raises(SnapshotInvalid, match=r"not a snapshot of plainmq"):
        load(in_chunks([frame]), Limits())


def test_a_state_with_an_outbox_is_no_snapshot() -> None:
    core = empty()
    core.append([Draft(Envelope("t"), [b"x"])], 1.0)
    with pytest.raises(AssertionError):
        [*take(core)]


GOLDEN: Final = Path(__file__).parent / "format_1.snapshot"


def test_a_snapshot_that_an_earlier_version_took_is_still_read() -> None:
    """Made by the first version of its format. A change that cannot read it takes another format."""
    core = load([GOLDEN.read_bytes()], LIMITS)
    groups = [
        (topic, name, len(group.jobs.by_seq)) for topic in TOPICS for name, group in core.groups.of(topic).items()
    ]
    assert (core.log.head, len(core.log.topics), groups) == (1155, 7, [("t2", "h", 10), ("t4", "g", 3)])
