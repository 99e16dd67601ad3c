"""A consumer group of one topic: the state of each message in it. The life of a message in a group:

              claim              ack
    ready ───────────▶ leased ─────────▶ acked
      ▲                  │ nack, lease expired, consumer disconnected
      │       time       ▼
      └──────────────delayed, or, after the last attempt ──▶ dead

A message that was handed out, and is neither acked nor dead, is a job (InFlight). The group is done with every other
message up to `cursor`. Every other message after `cursor` is still to be handed out, except a few that are settled
already (`ahead`): the cursor was moved back while they were jobs, or they were skipped. So a group takes memory for its
jobs only. All methods are pure functions of the time they are given: a lease past its end is over, even if no call has
noticed that yet.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Final

import msgspec

from ...messages.lease import CONNECTION_LOST, LEASE_EXPIRED, NACKED, Action, Outcome
from ...messages.position import Gap
from ..deadlines import Deadlines
from ..meter import Meter
from .job import BACKOFF, InFlight, JobState
from .precedence import Precedence
from .records import GroupRecord, GroupSettings, Replay
from .settled_ahead import NONE_AHEAD, SettledAhead
from .size import EMPTY_SIZE, RECENT_DEAD_COST, SHORT_TOPIC, Size

JOB_BATCH: Final = 100  # jobs that one call handles: a few milliseconds, after which other work gets its turn
MAX_RECENT_DEAD: Final = 10_000  # dead messages that a group remembers, so that a late ack of them is refused

_UNSORTED: Final = 1 << 62  # a seq after all others
_OPERATORS: Final = frozenset({Action.RELEASE, Action.SKIP})


class Group(msgspec.Struct, gc=False, eq=False):
    """`gap`: the messages after `begin` that were already removed when the group was created."""

    settings: GroupSettings
    begin: int  # messages up to this seq are not the group's
    gap: Gap | None = None
    cursor: int = 0  # every message up to this seq was handed out once, or removed before
    newest_known: int = 0  # no message after this seq and the cursor is a job or settled, except `redriven`
    ahead: SettledAhead = NONE_AHEAD
    passed: int = 0  # messages of UnackedIndex.accepted that are no longer to be handed out for the first time
    paused: bool = False  # the group hands out nothing until an operator resumes it
    closing: bool = False  # the group is being dropped and hands out nothing
    jobs: dict[int, InFlight] = msgspec.field(default_factory=dict)  # by seq, in the order in which they became jobs
    dead_letter_pending: dict[int, None] = msgspec.field(default_factory=dict)
    """Jobs out of attempts: the caller dead_letter()s or postpone()s them."""

    ended_leases: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """Seq and attempt of leases that the caller has to report."""

    dirty: dict[int, None] = msgspec.field(default_factory=dict)  # jobs that changed since the caller last cleared this
    leased: int = 0
    acked: int = 0
    acks: Meter = msgspec.field(default_factory=Meter)
    dead_total: int = 0
    skipped: int = 0
    attempts: int = 0  # the greatest number of an attempt so far
    replay: Replay | None = None
    precedence: Precedence | None = None  # from the first claim that has to know priorities and keys
    redriven: set[int] | None = None  # jobs that came back from a dead-letter topic: no other group has them
    postponed: dict[int, None] = msgspec.field(default_factory=dict)
    """Jobs out of attempts that wait for room in the dead-letter topic."""

    recent_dead: dict[int, None] = msgspec.field(default_factory=dict)  # the newest dead messages
    counted_size: Size = EMPTY_SIZE  # the size that the log has counted (Log.count_group)
    _newest_job: int = 0  # the last of `jobs` while they are sorted by seq; _UNSORTED otherwise
    _deadlines: Deadlines[int] = msgspec.field(default_factory=Deadlines)  # of jobs: the end of the lease or the delay
    _job_bytes: int = 0  # bytes of memory that the jobs take besides JOB_COST
    _requeued: list[int] = msgspec.field(default_factory=list)
    """A heap of jobs that are ready again; it may contain jobs that are gone."""

    def __post_init__(self) -> None:
        self.cursor = self.newest_known = self.begin

    def record(self) -> GroupRecord:
        return GroupRecord(
            self.settings, self.begin, self.cursor, self.acked, self.dead_total, self.gap, self.passed, self.closing,
            self.skipped, self.paused, self.attempts, self.replay,
        )  # fmt: skip

    @classmethod
    def restore(
        cls, record: GroupRecord, records: Mapping[int, InFlight], recent_dead: Iterable[int], server_run: str
    ) -> "Group":
        """Restore a stored group. `records`: of jobs, by seq, the oldest first. A lease that is bound to a connection
        of an earlier run of the server (another `server_run`) is over: its message is due at once."""
        group = cls(record.settings, record.begin, record.gap)
        group.cursor, group.acked, group.dead_total = record.cursor, record.acked, record.dead
        group.closing, group.skipped, group.paused = record.closing, record.skipped, record.paused
        group.attempts, group.replay = record.attempts, record.replay
        for seq in [seq for seq, job in records.items() if job.settled]:
            group.ahead = group.ahead.with_one(seq)
        group.jobs = jobs = {seq: job for seq, job in records.items() if not job.settled}
        group.redriven = {seq for seq, job in jobs.items() if job.redriven} or None
        group.newest_known = group._newest_job = max(records, default=0)
        group.recent_dead = dict.fromkeys(recent_dead)
        for seq, job in jobs.items():
            if job.expires is not None and job.bound not in {"", server_run}:
                job.expires, job.due = None, 0.0
                job.excused += 1
            group.leased += job.expires is not None
            group._job_bytes += job.nbytes
            if job.key:
                group.precede().keys.hold(job.key, seq)
            if job.expires is None and job.tries >= record.settings.max_deliveries:
                group.postponed[seq] = None
            group._deadlines.set(seq, job.due if job.expires is None else job.expires)
        return group

    def configure(self, settings: GroupSettings) -> None:
        """A job that is ready again dies if the new settings allow no more attempts."""
        self.settings = settings
        returned = {*self.take_all_requeued(), *(self.precedence.take_ready() if self.precedence else ())}
        for seq in sorted(returned):
            if self.state_of(seq) is JobState.READY:
                self._requeue(seq, self.jobs[seq])

    @property
    def size(self) -> "Size":
        nbytes = max(len(self.settings.dead_letter) - SHORT_TOPIC, 0) + RECENT_DEAD_COST * len(self.recent_dead)
        nbytes += self.precedence.nbytes if self.precedence else 0
        return Size(1, len(self.jobs) + len(self.ahead), nbytes + self._job_bytes)

    def is_unacked(self, seq: int) -> bool:
        """Whether the group still needs the message, so that the log must retain it."""
        return seq > self.cursor or seq in self.jobs

    def is_done(self, seq: int) -> bool:
        """Whether the message is acked or dead in this group. False for all messages of a group that is being
        dropped."""
        return self.begin < seq <= self.cursor and seq not in self.jobs and not self.closing

    def is_known(self, seq: int) -> bool:
        """Whether a message after the cursor is not to be handed out for the first time."""
        return seq in self.jobs or seq in self.ahead

    @property
    def oldest_job(self) -> int | None:
        """Its seq."""
        jobs = self.jobs
        return min(jobs, default=None) if self._newest_job == _UNSORTED else next(iter(jobs), None)

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
    def waiting(self) -> int:
        """How many of these cannot be handed out, because their keys are busy."""
        return len(self.precedence.keys.waiting) if self.precedence else 0

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

    def precede(self) -> Precedence:
        self.precedence = self.precedence or Precedence()
        return self.precedence

    def take_all_requeued(self) -> list[int]:
        """Remove and return the jobs that are ready again; some of them may be gone."""
        taken, self._requeued = self._requeued, []
        return taken

    def take_requeued(self) -> int | None:
        """Remove and return the oldest job that is ready again. The caller must lease() it, or remove its message."""
        while self._requeued:
            seq = heappop(self._requeued)
            if seq in self.jobs:
                return seq
        return None

    def lease(
        self, seq: int, now: float, expires: float, *, bound: str = "", holder: str = "", key: str = ""
    ) -> int:  # fmt: skip
        """Lease a job from take_requeued(), or the next message after `cursor`; returns the number of the attempt.
        `bound`: the run of the server with which the lease ends, if it is bound to a connection. `holder`: the
        consumer, for people. `key`: of the message, held until the group is done with it."""
        job = self.jobs.get(seq) or self.take_up(seq)
        if key and not job.key:
            self.precede().keys.hold(key, seq)
            self._job_bytes -= job.nbytes
            job.key = key
            self._job_bytes += job.nbytes
        job.attempt += 1
        self.attempts = max(self.attempts, job.attempt)
        job.expires, job.bound, job.holder, job.since = expires, bound, holder, now
        self.leased += 1
        self.dirty[seq] = None
        self._deadlines.set(seq, expires)
        return job.attempt

    def take_up(self, seq: int) -> InFlight:
        """A message that was never handed out becomes a job."""
        before = self.replay.attempts if self.replay is not None and seq <= self.replay.until else 0
        job = InFlight(before, before)
        self._add(seq, job)
        self.passed += 1
        if self.precedence is None:
            self.cursor = seq
        else:  # older ones may not have been handed out
            self.newest_known = max(self.newest_known, seq)
        return job

    def rewind(self, seq: int, passed: int, gap: Gap | None) -> None:
        """Hand out every message after `seq` again, except jobs. `passed`: what it would be without jobs. `gap`: the
        messages after `seq` that are gone."""
        for settled in [*self.ahead]:
            self.ahead.discard(settled)
            self.dirty[settled] = None
        self.newest_known = max(self.newest_known, self.cursor)
        self.replay = Replay(max(self.cursor, self.replay.until if self.replay else 0), self.attempts)
        self.cursor, self.begin = seq, min(self.begin, seq)
        self.passed = passed + sum(place > seq and not job.redriven for place, job in self.jobs.items())
        self.gap = gap if self.cursor == self.begin else gap or self.gap
        if self.precedence is not None:
            self.precedence.searched.clear()

    def _add(self, seq: int, job: InFlight) -> None:
        self._newest_job = seq if not self.jobs or seq > self._newest_job else _UNSORTED
        self.jobs[seq] = job
        self.dirty[seq] = None

    def redrive(self, seq: int, due: float, now: float) -> None:
        """A new message, which came back from the dead-letter topic for this group alone, is ready at `due`."""
        self.redriven = self.redriven or set()
        self.redriven.add(seq)
        self._add(seq, InFlight(due=due, redriven=True))
        if due > now:
            self._deadlines.set(seq, due)
        else:
            heappush(self._requeued, seq)

    def forget(self, seq: int) -> None:
        """Remove the message from the group, because it is gone, or the group is closing or past it."""
        if seq in self.ahead:
            self.ahead.discard(seq)
            self.dirty[seq] = None
        elif seq not in self.jobs:
            self.passed += seq > self.cursor
        if job := self._remove(seq):
            self._end_wait(seq, job)

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
        if action in _OPERATORS:
            return self._operate(action, seq, job, attempt)
        if job.expires is None or job.expires <= now or attempt not in {None, job.attempt}:
            return Outcome.EXPIRED
        self.dirty[seq] = None
        match action:
            case Action.ACK:
                self._end_lease(seq, job)
                self._finish(seq)
                self.acked += 1
                self.acks.add(1, now)
            case Action.EXTEND:
                job.expires = now + (self.settings.ack_timeout if seconds is None else seconds)
                self._deadlines.set(seq, job.expires)
            case Action.NACK:
                self._fail(seq, job, now, reason or NACKED, seconds)
            case Action.RETURN:
                self._fail(seq, job, now, CONNECTION_LOST)
            case Action.EXCUSE:
                self._excuse(seq, job)
        return Outcome.DONE

    def _operate(self, action: Action, seq: int, job: InFlight, attempt: int | None) -> Outcome:
        """An operator settles a job in any state; if it names a lease, only that one."""
        if attempt is not None and (job.expires is None or attempt != job.attempt):
            return Outcome.EXPIRED
        if action is Action.SKIP:
            self._end_wait(seq, job)
            self._finish(seq)
            self.skipped += 1
        elif job.expires is not None:
            self._excuse(seq, job)
        elif seq in self._deadlines:
            self._end_wait(seq, job)
            job.due = 0.0
            self._requeue(seq, job)
        self.dirty[seq] = None
        return Outcome.DONE

    def skip_ahead(self, seq: int) -> None:
        """Settle a message that was never handed out."""
        self.ahead = self.ahead.with_one(seq)
        self.newest_known = max(self.newest_known, seq)
        self.passed += 1
        self.skipped += 1
        self.dirty[seq] = None

    def take_passed(self) -> Iterator[int]:
        """The settled messages that the cursor has passed, one by one: from now on they are like all before it."""
        for seq in self.ahead.take_passed(self.cursor):
            self.dirty[seq] = None
            yield seq

    def _excuse(self, seq: int, job: InFlight) -> None:
        self._end_lease(seq, job)
        job.excused += 1
        self._requeue(seq, job)

    def _end_wait(self, seq: int, job: InFlight) -> None:
        """The job is neither leased nor delayed any more."""
        if job.expires is not None:
            self._end_lease(seq, job)
        self._deadlines.discard(seq)
        self.dead_letter_pending.pop(seq, None)
        self.postponed.pop(seq, None)

    def _settled(self, action: Action, seq: int) -> Outcome:
        """The outcome for a message that is not a job: it was never handed out, or it is acked or dead."""
        if not (self.begin < seq <= self.cursor or seq in self.ahead):
            return Outcome.UNKNOWN
        if action is Action.SKIP:  # the group never hands it out
            return Outcome.DONE
        return Outcome.DONE if action is Action.ACK and seq not in self.recent_dead else Outcome.EXPIRED

    def _finish(self, seq: int) -> None:
        """The group is done with the job."""
        job = self._remove(seq)
        if job is not None and seq > self.cursor and not job.redriven:
            self.ahead = self.ahead.with_one(seq)

    def _remove(self, seq: int) -> InFlight | None:
        job = self.jobs.pop(seq, None)
        if job is not None:
            if job.reason or job.key:
                self._job_bytes -= job.nbytes
            if self.precedence is not None and (freed := self.precedence.keys.gone(job.key, seq)) is not None:
                heappush(self._requeued, freed)
            if self.redriven is not None:
                self.redriven.discard(seq)
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
        self._finish(seq)
        del self.dead_letter_pending[seq]
        self.dead_total += 1
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

    def retry(self, seq: int, now: float) -> None:
        """Try a postponed job again at once."""
        if seq in self.postponed:
            self.dirty[seq] = None
            self.jobs[seq].due = now
            self._deadlines.set(seq, now)
