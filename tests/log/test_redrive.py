"""What happens between two slices of a redrive."""

from typing import Final

from app.log.epochs import Epochs
from app.log.groups.redrive import REDRIVE_BATCH, Redriven, RedriveTarget
from app.log.slices import Slices
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, lease_id
from tests.harness import T, draft

NOW: Final = 1_800_000_000.0
DEAD: Final = 2 * REDRIVE_BATCH + 20
TARGET: Final = RedriveTarget("jobs", "g", "jobs.dead")


def last(slices: Slices[T]) -> T:
    while True:
        try:
            next(slices)
        except StopIteration as end:
            value: T = end.value
            return value


def dead_lettered() -> LogStateMachine:
    """With a group that has given up DEAD messages."""
    core = LogStateMachine(Limits(Retention(max_messages=10_000)), Epochs("e"), MemoryMessageStore())
    core.append([draft("jobs", *[b"x"] * DEAD)], NOW)
    last(core.configure_group("jobs", "g", {"max_deliveries": 1}, None, NOW, make=True))
    leases = core.groups.claim("jobs", "g", count=DEAD, nbytes=1 << 20, seconds=None, now=NOW)
    core.groups.settle("jobs", "g", Action.NACK, [lease_id(lease) for lease in leases], seconds=None, now=NOW)
    while core.groups.dead_letter_pending:
        core.follow_up(NOW)
    return core


def counts(core: LogStateMachine) -> tuple[int, int]:
    """Ready and dead."""
    state = core.figures.state("jobs", "g", NOW)
    return state.ready, state.dead


def test_a_topic_that_is_paused_midway_gets_no_more_and_the_rest_stays_dead() -> None:
    core = dead_lettered()
    assert counts(core) == (0, DEAD)
    redriving = core.redriving.all(TARGET, NOW)
    next(redriving)
    last(core.pause("jobs", True, NOW))
    result = last(redriving)
    assert (len(result.seqs), result.left) == (REDRIVE_BATCH, DEAD - REDRIVE_BATCH)
    assert counts(core) == (REDRIVE_BATCH, DEAD - REDRIVE_BATCH)
    last(core.pause("jobs", False, NOW))
    again: Redriven = last(core.redriving.all(TARGET, NOW))
    assert (len(again.seqs), again.left) == (DEAD - REDRIVE_BATCH, 0)
    assert counts(core) == (DEAD, 0)
