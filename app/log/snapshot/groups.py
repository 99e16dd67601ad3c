"""Groups in a snapshot: the jobs of each, in parts, and then the group that they belong to; and leases by node."""

from collections.abc import Iterator

from ..groups.group import Group
from ..groups.job import InFlight
from ..groups.jobs import Jobs
from ..groups.precedence import Precedence, PrecedenceRecord
from ..groups.records import GroupRecord
from ..groups.size import Size
from ..slices import sliced
from ..state import LogStateMachine
from .record import Record, Restored


class JobsRecord(Record, frozen=True, array_like=True, gc=False, tag="jobs"):
    """Jobs.rows()"""

    rows: list[tuple[int, InFlight, float | None]]

    def restore(self, restored: Restored) -> None:
        for row in self.rows:
            restored.jobs.put(*row)


class GroupSnapshot(Record, frozen=True, array_like=True, gc=False, tag="group"):
    """The fields are those of Group and of Jobs. `topic`: its number. `deadline`: of Groups.deadlines."""

    topic: int
    name: str
    record: GroupRecord
    newest_known: int
    counted_size: Size
    deadline: float | None
    redriven: list[int] | None
    ahead: list[int]
    recent_dead: list[int]
    queue: list[int]
    dead_letter_pending: list[int]
    postponed: list[int]
    ended_leases: list[tuple[int, int]]
    precedence: PrecedenceRecord | None

    @classmethod
    def all(cls, core: LogStateMachine) -> "Iterator[JobsRecord | GroupSnapshot]":
        for number, topic in enumerate(core.log.topics.values()):
            for name, group in topic.unacked.groups.items() if topic.unacked is not None else ():
                for rows in sliced(group.jobs.rows()):
                    yield JobsRecord(rows)
                yield cls._of(number, name, group, core.groups.deadlines.get((topic.name, name)))

    @classmethod
    def _of(cls, topic: int, name: str, group: Group, deadline: float | None) -> "GroupSnapshot":
        jobs = group.jobs
        return cls(
            topic, name, group.record(), group.newest_known, group.counted_size, deadline,
            None if group.redriven is None else sorted(group.redriven), [*group.ahead], [*group.recent_dead],
            [*jobs.queue], [*jobs.dead_letter_pending], [*jobs.postponed], jobs.ended_leases,
            None if group.precedence is None else group.precedence.record(),
        )  # fmt: skip

    def restore(self, restored: Restored) -> None:
        topic, group = restored.topics[self.topic], Group.from_record(self.record, restored.jobs)
        assert topic.unacked is not None
        topic.unacked.groups[self.name] = group
        restored.jobs = Jobs(0)
        self._restore_jobs(group.jobs)
        group.newest_known, group.counted_size = self.newest_known, self.counted_size
        group.redriven = None if self.redriven is None else {*self.redriven}
        for seq in self.ahead:
            group.ahead = group.ahead.with_one(seq)
        group.recent_dead = dict.fromkeys(self.recent_dead)
        group.precedence = None if self.precedence is None else Precedence.from_record(self.precedence)
        if self.deadline is not None:
            restored.core.groups.deadlines.set((topic.name, self.name), self.deadline)

    def _restore_jobs(self, jobs: Jobs) -> None:
        jobs.queue = self.queue
        jobs.dead_letter_pending = dict.fromkeys(self.dead_letter_pending)
        jobs.postponed = dict.fromkeys(self.postponed)
        jobs.ended_leases = self.ended_leases


class BoundRecord(Record, frozen=True, array_like=True, gc=False, tag="bound"):
    """The topic, the group, the seq and the node of leases that are bound to a connection, in order."""

    leases: list[tuple[str, str, int, str]]

    @classmethod
    def all(cls, core: LogStateMachine) -> "Iterator[BoundRecord]":
        return map(cls, sliced((*lease, node) for lease, node in core.groups.bound.items()))

    def restore(self, restored: Restored) -> None:
        restored.core.groups.bound |= {(topic, group, seq): node for topic, group, seq, node in self.leases}
