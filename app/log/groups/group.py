"""A consumer group of one topic: the state of each message in it. The life of a message in a group:

              claim              ack
    ready ───────────▶ leased ─────────▶ acked
      ▲                  │ nack, lease expired, consumer disconnected
      │       time       ▼
      └──────────────delayed, or, after the last attempt ──▶ dead

Messages after `cursor` have never been handed out. A message that was handed out, and is neither acked nor dead, is a
job (InFlight). So a group takes memory for its jobs only. All methods are pure functions of the time they are given: a
lease past its end is over, even if no call has noticed that yet.
"""

import re
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from ...errors import GroupInvalid
from ...messages.lease import CONNECTION_LOST, LEASE_EXPIRED, NACKED, Action, Outcome
from ...messages.position import Gap
from ..deadlines import Deadlines
from ..meter import Meter
from .job import BACKOFF, InFlight, JobState

JOB_BATCH: Final = 100  # jobs that one call handles: a few milliseconds, after which other work gets its turn
MAX_RECENT_DEAD: Final = 10_000  # dead messages that a group remembers, so that a late ack of them is refused
GROUP_COST: Final = 1_536  # bytes of memory that a group takes, at most; a test measures it
SHORT_TOPIC: Final = 256  # characters of the dead-letter topic's name that GROUP_COST includes
RECENT_DEAD_COST: Final = 128  # likewise a remembered dead message

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,127}")


def parse_group(name: str) -> str:
    """Return the name unchanged. Raises GroupInvalid."""
    if _NAME.fullmatch(name):
        return name
    raise GroupInvalid(
        f"{name[:60]!a} is not the name of a group: expected 1 to 128 letters, digits, '_', '-', '.', '~', "
        f"the first one a letter, a digit or '_'"
    )


class GroupSettings(msgspec.Struct, frozen=True):
    """`start`: where the group begins, as the client wrote it. `ack_timeout`: the default length of a lease, in
    seconds. `dead_letter`: a topic."""

    dead_letter: str
    start: str = "earliest"
    ack_timeout: float = 30.0
    max_deliveries: int = 10


class GroupRecord(msgspec.Struct, frozen=True):
    """The stored state of a group, without its jobs. The fields are those of Group."""

    settings: GroupSettings
    begin: int
    cursor: int
    acked: int
    dead: int
    gap: Gap | None = None
    passed: int | None = None
    closing: bool = False


class Size(NamedTuple):
    """The size of groups: how many, their jobs, and the bytes of memory that they take besides GROUP_COST and
    JOB_COST."""

    groups: int
    jobs: int
    nbytes: int

    def changed(self, before: "Size", now: "Size") -> "Size":
        """The total after one of the groups changed its size."""
        return Size(
            self.groups + now.groups - before.groups,
            self.jobs + now.jobs - before.jobs,
            self.nbytes + now.nbytes - before.nbytes,
        )


EMPTY_SIZE: Final = Size(0, 0, 0)


class Group:
    __slots__ = (
        "_deadlines", "_job_bytes", "_requeued", "acked", "acks", "begin", "closing", "counted_size", "cursor", "dead",
        "dead_letter_pending", "dirty", "ended_leases", "gap", "jobs", "leased", "passed", "postponed", "recent_dead",
        "settings",
    )  # fmt: skip

    def __init__(self, settings: GroupSettings, begin: int, gap: Gap | None = None) -> None:
        """`gap`: the messages after `begin` that were already removed when the group was created."""
        self.settings = settings
        self.gap = gap
        self.begin = begin  # messages up to this seq are not the group's
        self.cursor = begin  # every message up to this seq was handed out once, or removed before
        self.passed = 0  # messages of UnackedIndex.accepted that are no longer to be handed out for the first time
        self.closing = False  # the group is being dropped and hands out nothing
        self.jobs: dict[int, InFlight] = {}  # by seq; the oldest first, since first deliveries are in order
        self.dead_letter_pending: dict[int, None] = {}  # jobs out of attempts: the caller dead_letter()s or postpone()s
        self.ended_leases: list[tuple[int, int]] = []  # seq and attempt of leases that the caller has to report
        self.dirty: dict[int, None] = {}  # jobs that changed since the caller last cleared this
        self.leased = 0
        self.acked = 0
        self.acks = Meter()
        self.dead = 0
        self.postponed: dict[int, None] = {}  # jobs out of attempts that wait for room in the dead-letter topic
        self._deadlines: Deadlines[int] = Deadlines()  # of jobs: the end of the lease or of the delay
        self._job_bytes = 0  # bytes of memory that the jobs take besides JOB_COST
        self._requeued: list[int] = []  # a heap of jobs that are ready again; it may contain jobs that are gone
        self.recent_dead: dict[int, None] = {}  # the newest dead messages
        self.counted_size = EMPTY_SIZE  # the size that the log has counted (Log.count_group)

    def record(self) -> GroupRecord:
        return GroupRecord(
            self.settings, self.begin, self.cursor, self.acked, self.dead, self.gap, self.passed, self.closing
        )  # fmt: skip

    @classmethod
    def restore(cls, note: GroupRecord, jobs: Mapping[int, InFlight], buried: Iterable[int], life: str) -> "Group":
        """Restore a stored group. `jobs`: by seq, the oldest first. A lease that is bound to a connection of an earlier
        run of the server (another `life`) is over: its message is due at once."""
        group = cls(note.settings, note.begin, note.gap)
        group.cursor, group.acked, group.dead = note.cursor, note.acked, note.dead
        group.closing = note.closing
        group.jobs = dict(jobs)
        group.recent_dead = dict.fromkeys(buried)
        for seq, job in jobs.items():
            if job.expires is not None and job.bound not in {"", life}:
                job.expires, job.due = None, 0.0
                job.excused += 1
            group.leased += job.expires is not None
            group._job_bytes += job.nbytes
            if job.expires is None and job.tries >= note.settings.max_deliveries:
                group.postponed[seq] = None
            group._deadlines.set(seq, job.due if job.expires is None else job.expires)
        return group

    def configure(self, settings: GroupSettings) -> None:
        """A job that is ready again dies if the new settings allow no more attempts."""
        self.settings = settings
        returned, self._requeued = sorted(self._requeued), []
        for seq in returned:  # a sorted list is a heap
            if job := self.jobs.get(seq):
                self._requeue(seq, job)

    @property
    def size(self) -> "Size":
        nbytes = max(len(self.settings.dead_letter) - SHORT_TOPIC, 0) + RECENT_DEAD_COST * len(self.recent_dead)
        return Size(1, len(self.jobs), nbytes + self._job_bytes)

    def is_unacked(self, seq: int) -> bool:
        """Whether the group still needs the message, so that the log must retain it."""
        return seq > self.cursor or seq in self.jobs

    def is_done(self, seq: int) -> bool:
        """Whether the message is acked or dead in this group. False for all messages of a group that is being
        dropped."""
        return self.begin < seq <= self.cursor and seq not in self.jobs and not self.closing

    @property
    def unreported_gap(self) -> Gap | None:
        """The gap, which is reported to consumers until the group has handed out a message."""
        return self.gap if self.cursor == self.begin else None

    @property
    def deadline(self) -> float | None:
        """When the next lease or delay ends."""
        return self._deadlines.next()

    @property
    def requeued(self) -> int:
        """How many jobs are ready again."""
        return len(self.jobs) - len(self._deadlines) - len(self.dead_letter_pending)

    @property
    def delayed(self) -> int:
        """How many jobs wait for their next attempt, or for room in the dead-letter topic."""
        return len(self.jobs) - self.requeued - self.leased

    def state_of(self, seq: int) -> JobState | None:
        """The state of a job; None if the message is none."""
        job = self.jobs.get(seq)
        if job is None:
            return None
        if job.expires is not None:
            return JobState.LEASED
        return JobState.DELAYED if seq in self._deadlines or seq in self.dead_letter_pending else JobState.READY

    # Handing out

    def take_requeued(self) -> int | None:
        """Remove and return the oldest job that is ready again. The caller must lease() it, or remove its message."""
        while self._requeued:
            seq = heappop(self._requeued)
            if seq in self.jobs:
                return seq
        return None

    def lease(self, seq: int, now: float, expires: float, *, bound: str = "", holder: str = "") -> int:
        """Lease a job from take_requeued(), or the next message after `cursor`; returns the number of the attempt.
        `bound`: the run of the server with which the lease ends, if it is bound to a connection. `holder`: the
        consumer, for people."""
        job = self.jobs.get(seq)
        if job is None:
            job = self.jobs[seq] = InFlight()
            self.cursor = seq
            self.passed += 1
        job.attempt += 1
        job.expires, job.bound, job.holder, job.since = expires, bound, holder, now
        self.leased += 1
        self.dirty[seq] = None
        self._deadlines.set(seq, expires)
        return job.attempt

    def forget(self, seq: int) -> None:
        """Remove the message from the group, because its ttl is over or the group is closing."""
        self.passed += seq > self.cursor
        if job := self._remove(seq):
            if job.expires is not None:
                self._end_lease(seq, job)
            self._deadlines.discard(seq)
            self.dead_letter_pending.pop(seq, None)
            self.postponed.pop(seq, None)

    # Time

    def pass_time(self, now: float) -> None:
        """End leases and delays that are due, at most JOB_BATCH; the rest remains due for the next call."""
        for seq in islice(self._deadlines.due(now), JOB_BATCH):
            job = self.jobs[seq]
            if job.expires is None:
                self._requeue(seq, job)
            else:
                self._fail(seq, job, job.expires, LEASE_EXPIRED)

    # Settling

    def settle(
        self, action: Action, seq: int, attempt: int | None, now: float, seconds: float | None, *,
        reason: str | None = None,
    ) -> Outcome:  # fmt: skip
        """End or extend the lease of this attempt (None: the current lease). `seconds`: a nack's delay (None: the
        backoff) or an extension's length (None: the ack_timeout). `reason`: why the work failed. pass_time(now) must
        have been called before."""
        job = self.jobs.get(seq)
        if job is None:
            return self._settled(action, seq)
        if job.expires is None or job.expires <= now or attempt not in {None, job.attempt}:
            return Outcome.EXPIRED
        self.dirty[seq] = None
        match action:
            case Action.ACK:
                self._end_lease(seq, job)
                self._remove(seq)
                self.acked += 1
                self.acks.add(1, now)
            case Action.EXTEND:
                job.expires = now + (self.settings.ack_timeout if seconds is None else seconds)
                self._deadlines.set(seq, job.expires)
            case Action.NACK:
                self._fail(seq, job, now, reason or NACKED, seconds)
            case Action.RETURN:
                self._fail(seq, job, now, CONNECTION_LOST)
            case Action.RELEASE:
                self._end_lease(seq, job)
                job.excused += 1
                self._requeue(seq, job)
        return Outcome.DONE

    def _settled(self, action: Action, seq: int) -> Outcome:
        """The outcome for a message that is not a job: it was never handed out, or it is acked or dead."""
        if not self.begin < seq <= self.cursor:
            return Outcome.UNKNOWN
        return Outcome.DONE if action is Action.ACK and seq not in self.recent_dead else Outcome.EXPIRED

    def _remove(self, seq: int) -> InFlight | None:
        job = self.jobs.pop(seq, None)
        if job is not None:
            self._job_bytes -= job.nbytes
            self.dirty[seq] = None
        return job

    def _end_lease(self, seq: int, job: InFlight) -> None:
        job.expires = None
        self.leased -= 1
        self._deadlines.discard(seq)
        self.ended_leases.append((seq, job.attempt))

    def _fail(self, seq: int, job: InFlight, at: float, reason: str, delay: float | None = None) -> None:
        self._end_lease(seq, job)
        self.dirty[seq] = None
        job.first_failure = at if job.first_failure is None else job.first_failure
        self._job_bytes -= job.nbytes
        job.last_failure, job.reason = at, reason
        self._job_bytes += job.nbytes
        wait = BACKOFF[min(job.tries, len(BACKOFF)) - 1] if delay is None else delay
        job.due = at + wait
        if wait and job.tries < self.settings.max_deliveries:
            self._deadlines.set(seq, job.due)
        else:
            self._requeue(seq, job)

    def _requeue(self, seq: int, job: InFlight) -> None:
        self.postponed.pop(seq, None)
        if job.tries < self.settings.max_deliveries:
            heappush(self._requeued, seq)
        else:
            self.dead_letter_pending[seq] = None

    # Death

    def dead_letter(self, seq: int) -> int | None:
        """The pending job has been published to the dead-letter topic. Returns a dead message that the group no longer
        remembers, if there is one."""
        self._remove(seq)
        del self.dead_letter_pending[seq]
        self.dead += 1
        self.recent_dead[seq] = None
        if len(self.recent_dead) <= MAX_RECENT_DEAD:
            return None
        forgotten = next(iter(self.recent_dead))
        del self.recent_dead[forgotten]
        return forgotten

    def postpone(self, seq: int, until: float) -> None:
        """The dead-letter topic has no room for the pending job: try again at `until`. Nobody gets it in between."""
        del self.dead_letter_pending[seq]
        self.postponed[seq] = None
        self.dirty[seq] = None
        self.jobs[seq].due = until
        self._deadlines.set(seq, until)
