"""The log in a snapshot: all that is neither of one topic nor of one message."""

from collections.abc import Iterator

from ..epochs import Epochs
from ..groups.groups import Settled
from ..memory import MemoryRecord
from ..message_clock import ClockRecord
from ..slices import sliced
from ..state import LogStateMachine
from ..topic_log import Limits
from ..trims import TrimMark
from .record import Record, Restored

Group = tuple[str, str]
"""Topic and name."""


class EngineRecord(Record, frozen=True, array_like=True, gc=False, tag="engine"):
    """What the engine has to know besides: the log does not know what it means."""

    state: bytes

    def restore(self, restored: Restored) -> None:
        restored.engine = self.state


class LogRecord(Record, frozen=True, array_like=True, gc=False, tag="log"):
    epoch: str
    parents: list[tuple[str, int]]
    head: int
    scheduled: int
    memory: MemoryRecord
    clock: ClockRecord
    floor: TrimMark
    newest_trimmed: int
    settled: Settled
    limits: Limits | None = None
    level: int = 1

    @classmethod
    def of(cls, core: LogStateMachine) -> "LogRecord":
        log, marks = core.log, core.log.trim_marks
        return cls(
            log.epochs.current, [*log.epochs.parents], log.head, log.scheduled, log.memory.record, log.clock.record,
            marks.floor, marks.newest, core.groups.settled, log.limits, core.level,
        )  # fmt: skip

    def restore(self, restored: Restored) -> None:
        log = restored.core.log
        log.epochs = Epochs(self.epoch, self.parents)
        if self.limits is not None:
            log.set_limits(self.limits)
        log.head, log.scheduled = self.head, self.scheduled
        log.memory.record, log.clock.record = self.memory, self.clock
        log.trim_marks.floor, log.trim_marks.newest = self.floor, self.newest_trimmed
        restored.core.groups.settled, restored.core.level = self.settled, self.level


class TrimMarksRecord(Record, frozen=True, array_like=True, gc=False, tag="trim_marks"):
    """Of dropped topics, oldest first."""

    marks: list[tuple[str, TrimMark]]

    @classmethod
    def all(cls, core: LogStateMachine) -> "Iterator[TrimMarksRecord]":
        marks = core.log.trim_marks
        for names in sliced(marks.forgotten):
            yield cls([(name, marks.of(name)) for name in names])

    def restore(self, restored: Restored) -> None:
        for name, mark in self.marks:
            restored.core.log.trim_marks.add_dropped(name, mark)


class DueRecord(Record, frozen=True, array_like=True, gc=False, tag="due"):
    """What the next calls do, in this order."""

    over_retention: list[str]
    groups_to_check: list[str]
    closing: list[Group]
    dead_letter_pending: list[Group]
    starved: list[Group]

    @classmethod
    def of(cls, core: LogStateMachine) -> "DueRecord":
        groups = core.groups
        return cls(
            [*core.trimmer.over_retention], [*core.log.groups_to_check], [*groups.closing],
            [*groups.dead_letter_pending], [*groups.starved],
        )  # fmt: skip

    def restore(self, restored: Restored) -> None:
        core, groups = restored.core, restored.core.groups
        core.trimmer.over_retention = dict.fromkeys(self.over_retention)
        core.log.groups_to_check = dict.fromkeys(self.groups_to_check)
        groups.closing = dict.fromkeys(self.closing)
        groups.dead_letter_pending = dict.fromkeys(self.dead_letter_pending)
        groups.starved = dict.fromkeys(self.starved)
