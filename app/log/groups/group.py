"""A consumer group of one topic: the state of each message in it. The life of a message in a group:

              claim              ack
    ready ───────────▶ leased ─────────▶ acked
      ▲                  │ nack, lease expired, consumer disconnected
      │       time       ▼
      └──────────────delayed, or, after the last attempt ──▶ dead

A message that was handed out, and is neither acked nor dead, is a job: `jobs` knows which of them are leased, delayed,
ready again or out of attempts. The group is done with every other message up to `cursor`. Every other message after
`cursor` is still to be handed out, except a few that are settled already (`ahead`): the cursor was moved back while
they were jobs, or they were skipped. So a group takes memory for its jobs only. All methods are pure functions of the
time they are given.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from ...messages.lease import CONNECTION_LOST, NACKED, OPERATORS, Action, Outcome
from ...messages.position import Gap
from ..meter import Meter
from .job import InFlight, JobState
from .jobs import Jobs
from .precedence import Precedence
from .records import GroupRecord, GroupSettings, Replay
from .settled_ahead import NONE_AHEAD, SettledAhead
from .size import EMPTY_SIZE, RECENT_DEAD_COST, SHORT_TOPIC, Size

MAX_RECENT_DEAD: Final = 10_000  # dead messages that a group remembers, so that a late ack of them is refused


class Group(msgspec.Struct, gc=False, eq=False):
    """`gap`: the messages that were already removed when the group was created or last sought, of those that it was to
    hand out. `gap_told`: the group has handed out a message since."""

    settings: GroupSettings
    begin: int  # messages up to this seq are not the group's
    gap: Gap | None = None
    cursor: int = 0  # every message up to this seq was handed out once, or removed before
    newest_known: int = 0  # no message after this seq and the cursor is a job or settled, except `redriven`
    ahead: SettledAhead = NONE_AHEAD
    passed: int = 0  # messages of UnackedIndex.accepted that are no longer to be handed out for the first time
    paused: bool = False  # the group hands out nothing until an operator resumes it
    closing: bool = False  # the group is being dropped and hands out nothing
    jobs: Jobs = msgspec.field(default_factory=lambda: Jobs(0))
    acked: int = 0
    acks: Meter = msgspec.field(default_factory=Meter)  # of `acked`
    dead_total: int = 0
    skipped: int = 0
    attempts: int = 0  # the greatest number of an attempt so far
    replay: Replay | None = None
    gap_told: bool = False
    precedence: Precedence | None = None  # from the first claim that has to know priorities and keys
    redriven: set[int] | None = None  # jobs that came back from a dead-letter topic: no other group has them
    recent_dead: dict[int, None] = msgspec.field(default_factory=dict)  # the newest dead messages
    counted_size: Size = EMPTY_SIZE  # the size that the log has counted (Log.count_group)

    def __post_init__(self) -> None:
        self.cursor = self.newest_known = self.begin
        self.jobs.max_deliveries = self.settings.max_deliveries

    def record(self) -> GroupRecord:
        return GroupRecord(
            self.settings, self.begin, self.cursor, self.acked, self.dead_total, self.gap, self.passed, self.closing,
            self.skipped, self.paused, self.attempts, self.replay, self.gap_told,
        )  # fmt: skip

    @classmethod
    def from_record(cls, record: GroupRecord, jobs: Jobs) -> "Group":
        group = cls(record.settings, record.begin, record.gap, jobs=jobs)
        group.cursor, group.acked, group.dead_total = record.cursor, record.acked, record.dead
        group.closing, group.skipped, group.paused = record.closing, record.skipped, record.paused
        group.attempts, group.replay, group.passed = record.attempts, record.replay, record.passed or 0
        group.gap_told = record.cursor != record.begin if record.gap_told is None else record.gap_told
        return group

    @classmethod
    def restore(
        cls, record: GroupRecord, records: Mapping[int, InFlight], recent_dead: Iterable[int], server_run: str
    ) -> "Group":
        """Restore a stored group. `records`: of jobs and of settled messages, by seq, the oldest first. `server_run`:
        of Jobs.restore()."""
        jobs = {seq: job for seq, job in records.items() if not job.settled}
        group = cls.from_record(record, Jobs.restore(jobs, record.settings.max_deliveries, server_run))
        for seq in [seq for seq, job in records.items() if job.settled]:
            group.ahead = group.ahead.with_one(seq)
        group.redriven = {seq for seq, job in jobs.items() if job.redriven} or None
        group.newest_known = max(records, default=0)
        group.recent_dead = dict.fromkeys(recent_dead)
        for seq, job in jobs.items():
            if job.key:
                group.precede().keys.hold(job.key, seq)
        return group

    def configure(self, settings: GroupSettings) -> None:
        """A job that is ready again dies if the new settings allow no more attempts."""
        self.settings, jobs = settings, self.jobs
        jobs.max_deliveries = settings.max_deliveries
        returned = {*jobs.take_all_requeued(), *(self.precedence.take_ready() if self.precedence else ())}
        for seq in sorted(returned):
            if jobs.state_of(seq) is JobState.READY:
                jobs.requeue(seq, jobs.by_seq[seq])

    @property
    def size(self) -> "Size":
        nbytes = max(len(self.settings.dead_letter) - SHORT_TOPIC, 0) + RECENT_DEAD_COST * len(self.recent_dead)
        nbytes += self.precedence.nbytes if self.precedence else 0
        return Size(1, len(self.jobs.by_seq) + len(self.ahead), nbytes + self.jobs.nbytes)

    def is_unacked(self, seq: int) -> bool:
        """Whether the group still needs the message, so that the log must retain it."""
        return seq > self.cursor or seq in self.jobs.by_seq

    def is_done(self, seq: int) -> bool:
        """Whether the message is acked or dead in this group. False for all messages of a group that is being
        dropped."""
        return self.begin < seq <= self.cursor and seq not in self.jobs.by_seq and not self.closing

    def is_known(self, seq: int) -> bool:
        """Whether a message after the cursor is not to be handed out for the first time."""
        return seq in self.jobs.by_seq or seq in self.ahead

    @property
    def unreported_gap(self) -> Gap | None:
        """The gap, which is reported to consumers until the group has handed out a message."""
        return None if self.gap_told else self.gap

    @property
    def waiting(self) -> int:
        """How many of the jobs that are ready again cannot be handed out, because their keys are busy."""
        return len(self.precedence.keys.waiting) if self.precedence else 0

    # Handing out

    def precede(self) -> Precedence:
        self.precedence = self.precedence or Precedence()
        return self.precedence

    def lease(
        self, seq: int, now: float, expires: float, *, bound: str = "", holder: str = "", key: str = ""
    ) -> int:  # fmt: skip
        """Lease a job that is ready again, or the next message after `cursor`; returns the number of the attempt.
        `bound`: the run of the server with which the lease ends, if it is bound to a connection. `holder`: the
        consumer, for people. `key`: of the message, held until the group is done with it."""
        jobs = self.jobs
        job = jobs.by_seq.get(seq) or self.take_up(seq)
        if key and not job.key:
            self.precede().keys.hold(key, seq)
            jobs.hold_key(job, key)
        jobs.lease(seq, job, now, expires, bound=bound, holder=holder)
        self.attempts, self.gap_told = max(self.attempts, job.attempt), True
        return job.attempt

    def take_up(self, seq: int) -> InFlight:
        """A message that was never handed out becomes a job."""
        before = self.replay.attempts if self.replay is not None and seq <= self.replay.until else 0
        job = InFlight(before, before)
        self.jobs.add(seq, job)
        self.passed += 1
        if self.precedence is None:
            self.cursor = seq
        else:  # older ones may not have been handed out
            self.newest_known = max(self.newest_known, seq)
        return job

    def rewind(self, seq: int, passed: int, gap: Gap | None) -> None:
        """Hand out every message after `seq` again, except jobs. `passed`: what it would be without jobs. `gap`: as of
        restart()."""
        for settled in [*self.ahead]:
            self.ahead.discard(settled)
            self.jobs.dirty[settled] = None
        self.newest_known = max(self.newest_known, self.cursor)
        self.replay = Replay(max(self.cursor, self.replay.until if self.replay else 0), self.attempts)
        self.cursor, self.begin = seq, min(self.begin, seq)
        self.passed = passed + sum(place > seq and not job.redriven for place, job in self.jobs.by_seq.items())
        self.restart(gap)
        if self.precedence is not None:
            self.precedence.searched.clear()

    def restart(self, gap: Gap | None) -> None:
        """The group goes on at another position. `gap`: the messages after it that are gone."""
        self.gap, self.gap_told = gap, False

    def redrive(self, seq: int, due: float, now: float) -> None:
        """A new message, which came back from the dead-letter topic for this group alone, is ready at `due`."""
        self.redriven = self.redriven or set()
        self.redriven.add(seq)
        self.jobs.add_due(seq, InFlight(due=due, redriven=True), now)

    def forget(self, seq: int) -> None:
        """Remove the message from the group, because it is gone, or the group is closing or past it."""
        if seq in self.ahead:
            self.ahead.discard(seq)
            self.jobs.dirty[seq] = None
        elif seq not in self.jobs.by_seq:
            self.passed += seq > self.cursor
        if job := self._remove(seq):
            self.jobs.end_wait(seq, job)

    # Settling

    def settle(
        self, action: Action, seq: int, attempt: int | None, now: float, seconds: float | None, *,
        reason: str | None = None,
    ) -> Outcome:  # fmt: skip
        """End or extend the lease of this attempt (None: the current lease). `seconds`: a nack's delay (None: the
        backoff) or an extension's length (None: the ack_timeout). `reason`: why the work failed. Jobs.pass_time(now)
        must have been called before."""
        jobs = self.jobs
        job = jobs.by_seq.get(seq)
        if job is None:
            return self._settled(action, seq)
        if action in OPERATORS:
            return self._operate(action, seq, job, attempt)
        if not jobs.is_leased(job, attempt, now):
            return Outcome.EXPIRED
        match action:
            case Action.ACK:
                jobs.end_lease(seq, job)
                self._finish(seq)
                if now >= self.acks.end:
                    self.acks.turn(now, self.acked)
                self.acked += 1
            case Action.EXTEND:
                jobs.extend(seq, job, now + (self.settings.ack_timeout if seconds is None else seconds))
            case Action.NACK:
                jobs.fail(seq, job, now, reason or NACKED, seconds)
            case Action.RETURN:
                jobs.fail(seq, job, now, CONNECTION_LOST)
            case Action.EXCUSE:
                jobs.excuse(seq, job)
        return Outcome.DONE

    def _operate(self, action: Action, seq: int, job: InFlight, attempt: int | None) -> Outcome:
        """An operator settles a job in any state; if it names a lease, only that one."""
        if attempt is not None and (job.expires is None or attempt != job.attempt):
            return Outcome.EXPIRED
        if action is Action.SKIP:
            self.jobs.end_wait(seq, job)
            self._finish(seq)
            self.skipped += 1
        else:
            self.jobs.release(seq, job)
        return Outcome.DONE

    def skip_ahead(self, seq: int) -> None:
        """Settle a message that was never handed out."""
        self.ahead = self.ahead.with_one(seq)
        self.newest_known = max(self.newest_known, seq)
        self.passed += 1
        self.skipped += 1
        self.jobs.dirty[seq] = None

    def take_passed(self) -> Iterator[int]:
        """The settled messages that the cursor has passed, one by one: from now on they are like all before it."""
        for seq in self.ahead.take_passed(self.cursor):
            self.jobs.dirty[seq] = None
            yield seq

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
        job = self.jobs.remove(seq)
        if job is not None:
            if self.precedence is not None and (freed := self.precedence.keys.gone(job.key, seq)) is not None:
                self.jobs.free(freed)
            if self.redriven is not None:
                self.redriven.discard(seq)
        return job

    # Death

    def dead_letter(self, seq: int) -> int | None:
        """The pending job has been published to the dead-letter topic. Returns a dead message that the group no longer
        remembers, if there is one."""
        self._finish(seq)
        del self.jobs.dead_letter_pending[seq]
        self.dead_total += 1
        self.recent_dead[seq] = None
        if len(self.recent_dead) <= MAX_RECENT_DEAD:
            return None
        forgotten = next(iter(self.recent_dead))
        del self.recent_dead[forgotten]
        return forgotten
