"""The same commands at the same times lead every state machine to the same results and the same state: whatever is read
from it in between, whatever seed its process hashes with, and however often it is replaced by its own snapshot."""

import hashlib
import os
import subprocess
import sys
from random import Random
from typing import Any, Final

import pytest

from app.errors import PlainmqError
from app.log.accepted import DEFERRED
from app.log.commands.command import Command, SlicedChange
from app.log.directory import ListQuery
from app.log.epochs import Epochs
from app.log.groups.job import JobState
from app.log.groups.listing import JobQuery
from app.log.slices import Slices
from app.log.snapshot.snapshot import digest, load, take
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits, Retention
from app.messages.position import EARLIEST, LATEST, Ago, Last, Start
from app.messages.topic import TopicFilter
from app.storage.replicated.contents import Writer, decode
from tests.log.commands.random_commands import EPOCH, GROUPS, MAKERS, TOPICS, RandomCommands
from tests.log.commands.state_dump import dump

LIMITS: Final = Limits(
    Retention(20, 1 << 12, 30.0), total_bytes=120_000, topics=len(TOPICS) - 1, groups=2, topic_idle=15.0,
    memory_bytes=60_000,
)  # fmt: skip
STEPS: Final = [0.0, 0.0, 0.001, 0.1, 1.0, 6.0]  # seconds between commands
NODES: Final = [*"aaaaaaab"]  # whose commands they are
ENTRIES: Final = 2_000
RELOAD_EVERY: Final = 97
CHECK_EVERY: Final = 50


def fresh() -> LogStateMachine:
    return LogStateMachine(LIMITS, Epochs(EPOCH), MemoryMessageStore())


def whole(slices: Slices[Any]) -> Any:
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value


def carry_out(core: LogStateMachine, command: Command, now: float, node: str = "") -> tuple[Any, list[tuple[str, int]]]:
    """The result, or the error, and the new messages for one subscriber. `node`: whose command it is."""
    core.log.single_delivery.node = node
    core.catch_up(now)
    try:
        result = command.carry_out(core, now)
        result = whole(result) if isinstance(command, SlicedChange) else result
        result = result.receipt({}) if isinstance(result, DEFERRED) else result
    except PlainmqError as error:
        result = error
    core.trim()
    return result, [(run.envelope.topic, run.seq) for run in core.take_outbox().for_one]


def read(core: LogStateMachine, random: Random, now: float) -> None:
    """Ask everything that a client can ask, at a time of one's own."""
    topic_filter = TopicFilter([random.choice(["t1", "*", "**", "t0.dead"])])
    starts: list[Start] = [EARLIEST, LATEST, Ago(5.0), Last(3)]
    cursor = whole(core.reading.locate(topic_filter, random.choice(starts), now))
    whole(core.reading.read(topic_filter, cursor, now, limit=10, nbytes=1 << 12, take=True))
    whole(core.directory.topics(ListQuery(), now))
    whole(core.directory.groups(ListQuery(), now))
    whole(core.totals())
    whole(core.schedule.page(None, None, 10))
    for topic in TOPICS:
        for group in GROUPS:
            try:
                core.figures.state(topic, group, now)
                for state in JobState:
                    whole(core.jobs.page(JobQuery(topic, group, state, 0, 10), now))
            except PlainmqError:
                pass  # there is no such group now
    assert core.deadline >= 0.0


def reloaded(core: LogStateMachine) -> LogStateMachine:
    """What its snapshot stands for."""
    loaded = load(take(core), LIMITS)
    assert dump(loaded) == dump(core)
    return loaded


def run(seed: int, entries: int, reload_every: int) -> str:
    """A digest of all results and of the state at last. Compares a state machine that is read from, and one that is
    loaded from its snapshot now and then, with a plain one, and each command with what its bytes say."""
    commands, reader, plain, asked, third = RandomCommands(seed), Random(seed), fresh(), fresh(), fresh()
    clock, now, results, carried_out = Random(seed), 1e9, hashlib.sha256(), set[str]()
    for number in range(entries):
        now = round(now + clock.choice(STEPS), 3)
        command, node = commands.next(), clock.choice(NODES)
        (decoded,) = decode(Writer("node").encode([command])).commands
        result, for_one = carry_out(plain, command, now, node)
        shown = repr(result), for_one
        assert (
            shown == _shown(*carry_out(asked, decoded, now, node)) == _shown(*carry_out(third, decoded, now, node))
        ), command
        commands.head = plain.log.head
        commands.answered(command, result, for_one)
        if not isinstance(result, PlainmqError):
            carried_out.add(type(command).__name__)
        results.update(repr(result).encode())
        read(asked, reader, now + 7.0)
        if number % reload_every == 0:
            third = reloaded(third)
        if number % CHECK_EVERY == 0:
            assert dump(plain) == dump(asked) == dump(third), number
            assert digest(plain) == digest(asked) == digest(third), number
    assert len(carried_out) >= len(MAKERS), sorted(carried_out)  # Resolve is two commands
    results.update(dump(plain).encode())
    return f"{results.hexdigest()} {digest(plain)}"


def _shown(result: Any, for_one: list[tuple[str, int]]) -> tuple[str, list[tuple[str, int]]]:
    return repr(result), for_one


@pytest.mark.parametrize("seed", [1, 2])
def test_commands_lead_to_the_same_state_whatever_is_read_or_reloaded_and_however_python_hashes(seed: int) -> None:
    assert len({_digest(seed, hash_seed, ENTRIES, RELOAD_EVERY) for hash_seed in ("0", "1")}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 16))
def test_many_commands_lead_to_the_same_state(seed: int) -> None:
    assert len({_digest(seed, hash_seed, 20_000, 997) for hash_seed in ("0", "1", "2")}) == 1


def _digest(seed: int, hash_seed: str, entries: int, reload_every: int) -> str:
    code = f"from {__name__} import run; print(run({seed}, {entries}, {reload_every}))"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
