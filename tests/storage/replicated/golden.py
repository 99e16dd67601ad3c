"""Golden journals: entries of all commands, and the checks that they led to in the first version of their level.

`python -m tests.storage.replicated.golden` makes the one of the present level. It is made once, when the level is new;
while no release has the level, it may be deleted and made again.
"""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from app.errors import PlainmqError
from app.log.accepted import DEFERRED
from app.log.commands.begin_epoch import BeginEpoch
from app.log.commands.set_limits import SetLimits
from app.log.epochs import Epochs
from app.log.level import LEVEL
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits
from app.storage.replicated.contents import Writer
from app.storage.replicated.fold import Fold
from app.storage.replicated.journal import Entry
from tests.harness import whole
from tests.log.commands.random_commands import EPOCH, MAKERS, RandomCommands
from tests.log.commands.test_determinism import LIMITS

FOLDER: Final = Path(__file__).parent
ENTRIES: Final = 1_500
EVERY: Final = 50  # entries between two checks
SEED: Final = 23
STEPS: Final = [0.0, 0.001, 0.1, 1.0, 6.0]  # seconds between entries
NODES: Final = [*"aaabbc"]


class Golden(msgspec.Struct):
    """`entries`: the time and the data of each. `checks`: after every EVERY entries."""

    level: int
    entries: list[tuple[float, bytes]]
    checks: list[int]


def path(level: int) -> Path:
    return FOLDER / f"level_{level}.journal"


def read(level: int) -> Golden:
    return msgspec.msgpack.decode(zlib.decompress(path(level).read_bytes()), type=Golden)


def fresh(known_level: int = LEVEL) -> Fold:
    core = LogStateMachine(Limits(), Epochs(""), MemoryMessageStore())
    core.level = 1
    return Fold(core, known_level)


def link(number: int) -> bytes:
    return number.to_bytes(8, "big") if number else b""


def carry_out(fold: Fold, time: float, data: bytes) -> Sequence[Any]:
    number = fold.number + 1
    results: Sequence[Any] = whole(fold.carry_out(Entry(number, link(number), link(number - 1), time, data)))
    return results


def folded(golden: Golden) -> Iterator[int]:
    """The checks that the entries lead to now."""
    fold = fresh()
    for time, data in golden.entries:
        carry_out(fold, time, data)
        fold.core.take_outbox()
        if fold.number % EVERY == 0:
            yield fold.check.value


def make() -> Golden:
    commands, random, fold, now = RandomCommands(SEED), Random(SEED), fresh(), 1e9
    first = Writer("a").encode([BeginEpoch(EPOCH), SetLimits(LIMITS)])
    carry_out(fold, now, first)
    golden, done = Golden(LEVEL, [(now, first)], []), set[str]()
    while fold.number < ENTRIES:
        now = round(now + random.choice(STEPS), 3)
        node, chosen = random.choice(NODES), [commands.next() for _ in range(random.choice([1, 1, 2, 3]))]
        data = Writer(node).encode(chosen, bye=random.random() < 0.01)
        results = carry_out(fold, now, data)
        for_one = [(run.envelope.topic, run.seq) for run in fold.core.take_outbox().for_one]
        commands.head = fold.core.log.head
        for command, result in zip(chosen, results, strict=True):
            answer = result.receipt({}) if isinstance(result, DEFERRED) else result
            commands.answered(command, answer, for_one)
            for_one = []
            if not isinstance(result, PlainmqError):
                done.add(type(command).__name__)
        golden.entries.append((now, data))
        if fold.number % EVERY == 0:
            golden.checks.append(fold.check.value)
    assert len(done) >= len(MAKERS), done
    return golden


if __name__ == "__main__":
    assert not path(LEVEL).exists(), "it is there: a changed decision takes a new level"
    path(LEVEL).write_bytes(zlib.compress(msgspec.msgpack.encode(make()), 9))
