"""The list of runs against a plain one, while it is iterated; and removing the oldest runs costs no more with many."""

import random
from dataclasses import dataclass, field

import pytest

from app.log.run_list import RunList


@dataclass(eq=False)
class Single:
    """A run of one message, which counts how often its key is read."""

    seq: int
    reads: list[int] = field(default_factory=lambda: [0])

    @property
    def key(self) -> int:
        self.reads[0] += 1
        return self.seq

    def has(self, seq: int) -> bool:
        return seq == self.seq


def filled(count: int) -> tuple[RunList, list[int]]:
    """The second: how often keys were read since then."""
    runs, reads = RunList(), [0]
    for seq in range(count):
        runs.append(Single(seq, reads))  # type: ignore[arg-type]
    reads[0] = 0
    return runs, reads


@pytest.mark.parametrize("seed", range(30))
def test_an_iteration_sees_each_run_that_stays_once_and_none_that_is_gone(seed: int) -> None:
    dice = random.Random(seed)
    runs, _ = filled(1_000)
    left, added = set(range(1_000)), 0
    after, newest = runs.after(9), runs.newest()
    seen_after: list[int] = []
    seen_newest: list[int] = []
    for _ in range(400):
        for seen, iterator in ((seen_after, after), (seen_newest, newest)):
            if (run := next(iterator, None)) is not None:
                assert run.seq in left
                seen.append(run.seq)
        for _ in range(dice.randrange(5)):
            gone = min(left) if dice.random() < 0.6 else dice.choice([*left])
            runs.put(gone, None)
            left.discard(gone)
        assert len(runs) == len(left) + added
        if dice.random() < 0.1:
            added += 1
            runs.append(Single(1_000 + len(seen_after)))  # type: ignore[arg-type]
    seen_after += [run.seq for run in after]
    seen_newest += [run.seq for run in newest]
    assert seen_after == sorted({*seen_after})
    assert seen_newest == sorted({*seen_newest}, reverse=True)
    assert {seq for seq in left if seq > 9} <= {*seen_after} <= {*range(10, 1_000)}
    assert left <= {*seen_newest} <= {*range(1_000)}
    assert [seq for seq in range(1_000) if runs.find(seq)] == sorted(left)


def test_removing_the_oldest_runs_looks_at_no_other() -> None:
    runs, reads = filled(10_000)
    for seq in range(9_000):
        runs.put(seq, None)
    assert runs.first.seq == 9_000
    assert reads == [0]
