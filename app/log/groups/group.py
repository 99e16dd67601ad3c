"""A group: which messages of a topic its workers have done, and what becomes of the others. A message's life in it:

              claim              ack
    ready ───────────▶ leased ─────────▶ acked
      ▲                  │ nack, lease over, worker gone
      │       time       ▼
      └──────────────delayed, or, when that was the last attempt ──▶ dead

What was never handed out lies behind `cursor`, in the log's order; what was, and is neither acked nor dead, is a Job.
So a group costs memory for what is under way only. Plain data and functions of the time they are given: a lease past
its end *is* over, whenever somebody asks next.
"""

import re
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from ...errors import GroupInvalid
from ...messages.lease import Action, Outcome
from ...messages.position import Gap
from ..deadlines import Deadlines

BACKOFF: Final = (0.0, 1.0, 5.0, 30.0, 60.0)  # seconds until the next attempt, after the first failure, the second, ...
JOB_BATCH: Final = 100  # leases and delays of a group that end together: some milliseconds, then others get their turn
MAX_RECENT_DEAD: Final = 10_000  # dead messages whose late ack is told so
GROUP_COST: Final = 1_536  # bytes of memory that a group takes, at most; a test measures it
SHORT_TOPIC: Final = 256  # characters of its dead-letter topic that are within GROUP_COST
JOB_COST: Final = 400  # bytes of memory that a message may take in a group, beyond its own; a test measures it
RECENT_DEAD_COST: Final = 128  # likewise a dead message that it remembers

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,127}")


def parse_group(name: str) -> str:
    """The name itself, checked. Raises GroupInvalid."""
    if _NAME.fullmatch(name):
        return name
    raise GroupInvalid(
        f"{name[:60]!a} is not the name of a group: expected 1 to 128 letters, digits, '_', '-', '.', '~', "
        f"the first one a letter, a digit or '_'"
    )


class GroupSettings(msgspec.Struct, frozen=True):
    """`start` is the word that said where it begins; `ack_timeout` the seconds of a lease unless the worker asks for
    others; `dead_letter` a topic."""

    dead_letter: str
    start: str = "earliest"
    ack_timeout: float = 30.0
    max_deliveries: int = 10


class DeadLetters(msgspec.Struct, frozen=True):
    """What a group's dead-letter topic keeps until somebody takes it away, and its bound: then what dies stays in the
    group, where so many wait for room."""

    kept: int
    bytes: int
    max_messages: int
    max_bytes: int
    waiting: int


class GroupState(msgspec.Struct, frozen=True):
    """How many messages are in each stage of their life. `ready`, `leased` and `delayed` together are the lag: what is
    not acked. `acked` and `dead` count from the group's beginning. `oldest` is the id of the oldest un-acked message,
    `oldest_time` when it was accepted (Unix seconds). `gap`: what was gone of its topic when it was made."""

    topic: str
    group: str
    ready: int
    leased: int
    delayed: int
    acked: int
    dead: int
    oldest: str | None
    oldest_time: float | None
    gap: Gap | None
    dead_letters: DeadLetters
    settings: GroupSettings

    @property
    def lag(self) -> int:
        return self.ready + self.leased + self.delayed


class InFlight(msgspec.Struct, gc=False):
    """A message that was handed out and is neither acked nor dead. `expires` is the lease's end, None without one; then
    it is ready again, or dead, at `due`."""

    attempt: int = 0
    excused: int = 0  # attempts that the server itself cut short: they do not count against max_deliveries
    bound: str = ""  # the life of the server in which a connection holds the lease; empty: it outlasts any
    expires: float | None = None
    due: float = 0.0
    first_failure: float | None = None
    last_failure: float = 0.0
    reason: str = ""

    @property
    def tries(self) -> int:
        """The attempts that count."""
        return self.attempt - self.excused


class GroupRecord(msgspec.Struct, frozen=True):
    """What must be known of a group besides its jobs."""

    settings: GroupSettings
    begin: int
    cursor: int
    acked: int
    dead: int
    gap: Gap | None = None
    passed: int | None = None
    closing: bool = False


class Size(NamedTuple):
    """Of groups: how many, how many jobs they have, and bytes of memory that they take besides GROUP_COST and
    JOB_COST."""

    groups: int
    jobs: int
    nbytes: int

    def changed(self, before: "Size", now: "Size") -> "Size":
        """Of these, when one of them was so large before."""
        return Size(
            self.groups + now.groups - before.groups,
            self.jobs + now.jobs - before.jobs,
            self.nbytes + now.nbytes - before.nbytes,
        )


EMPTY_SIZE: Final = Size(0, 0, 0)


class Group:
    __slots__ = (
        "_deadlines",
        "_requeued",
        "acked",
        "begin",
        "closing",
        "counted_size",
        "cursor",
        "dead",
        "dead_letter_pending",
        "dirty",
        "ended_leases",
        "gap",
        "jobs",
        "leased",
        "passed",
        "postponed",
        "recent_dead",
        "settings",
    )  # fmt: skip

    def __init__(self, settings: GroupSettings, begin: int, gap: Gap | None = None) -> None:
        """`gap`: what it was to begin with, and is gone."""
        self.settings = settings
        self.gap = gap
        self.begin = begin  # it has nothing to do with messages up to this seq
        self.cursor = begin  # every message up to this seq was handed out
        self.passed = (
            0  # of those that came (app/log/groups/unacked.py), how many are not to be handed out for the first time
        )
        self.closing = False  # it is being dropped: nobody gets anything from it
        self.jobs: dict[int, InFlight] = {}  # by seq; the oldest first, since first deliveries are in order
        self.dead_letter_pending: dict[
            int, None
        ] = {}  # jobs that are out of attempts: somebody has to bury() or postpone() them
        self.ended_leases: list[tuple[int, int]] = []  # leases that are over, by seq and attempt: somebody has to tell
        self.dirty: dict[int, None] = {}  # jobs that changed: somebody may have to write that down
        self.leased = 0
        self.acked = 0
        self.dead = 0
        self.postponed: dict[int, None] = {}  # jobs that are out of attempts, and wait for room among the dead
        self._deadlines: Deadlines[int] = Deadlines()  # of jobs: the lease's end, or the delay's
        self._requeued: list[int] = []  # a heap of jobs that are ready again, and of some that were lost
        self.recent_dead: dict[int, None] = {}  # the newest that are dead
        self.counted_size = EMPTY_SIZE  # its size, as the log counts it (app/log/log.py)

    def record(self) -> GroupRecord:
        return GroupRecord(
            self.settings, self.begin, self.cursor, self.acked, self.dead, self.gap, self.passed, self.closing
        )  # fmt: skip

    @classmethod
    def restore(cls, note: GroupRecord, jobs: Mapping[int, InFlight], buried: Iterable[int], life: str) -> "Group":
        """Take up where another group left off. `jobs` by seq, the oldest first. A lease that was bound to a connection
        ended with it, and with the `life` of the server: what it held is due at once."""
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
            if job.expires is None and job.tries >= note.settings.max_deliveries:
                group.postponed[seq] = None
            group._deadlines.set(seq, job.due if job.expires is None else job.expires)
        return group

    def configure(self, settings: GroupSettings) -> None:
        """What is ready again, and out of attempts when there are fewer, dies."""
        self.settings = settings
        returned, self._requeued = sorted(self._requeued), []
        for seq in returned:  # a sorted list is a heap
            if job := self.jobs.get(seq):
                self._requeue(seq, job)

    @property
    def size(self) -> "Size":
        nbytes = max(len(self.settings.dead_letter) - SHORT_TOPIC, 0) + RECENT_DEAD_COST * len(self.recent_dead)
        return Size(1, len(self.jobs), nbytes)

    def is_unacked(self, seq: int) -> bool:
        """Whether the message is not done yet, so that the log must not give it up."""
        return seq > self.cursor or seq in self.jobs

    def is_done(self, seq: int) -> bool:
        """Whether it is done with the message: acked, or dead. A group that is being dropped lets go, and has done
        nothing."""
        return self.begin < seq <= self.cursor and seq not in self.jobs and not self.closing

    @property
    def unreported_gap(self) -> Gap | None:
        """The gap, for whoever comes until something was handed out."""
        return self.gap if self.cursor == self.begin else None

    @property
    def deadline(self) -> float | None:
        """When the next lease or delay is over."""
        return self._deadlines.next()

    @property
    def requeued(self) -> int:
        """How many jobs are ready again."""
        return len(self.jobs) - len(self._deadlines) - len(self.dead_letter_pending)

    @property
    def delayed(self) -> int:
        """How many jobs wait for their next attempt, or for room among the dead."""
        return len(self.jobs) - self.requeued - self.leased

    # Handing out

    def take_requeued(self) -> int | None:
        """The oldest job that is ready again; it is the caller's to lease(), unless its message is gone."""
        while self._requeued:
            seq = heappop(self._requeued)
            if seq in self.jobs:
                return seq
        return None

    def lease(self, seq: int, expires: float, bound: str = "") -> int:
        """Hand the message out; returns which attempt it is. It is a job that was taken, or the next after `cursor`.
        `bound`: the life of the server with which the lease ends, if it is bound to a connection."""
        job = self.jobs.get(seq)
        if job is None:
            job = self.jobs[seq] = InFlight()
            self.cursor = seq
            self.passed += 1
        job.attempt += 1
        job.expires, job.bound = expires, bound
        self.leased += 1
        self.dirty[seq] = None
        self._deadlines.set(seq, expires)
        return job.attempt

    def forget(self, seq: int) -> None:
        """The message is gone: its ttl is over. Or the group is closing."""
        self.passed += seq > self.cursor
        if job := self.jobs.pop(seq, None):
            self.dirty[seq] = None
            if job.expires is not None:
                self._end_lease(seq, job)
            self._deadlines.discard(seq)
            self.dead_letter_pending.pop(seq, None)
            self.postponed.pop(seq, None)

    # Time

    def pass_time(self, now: float) -> None:
        """Do what is due, but no more than some milliseconds allow: the rest is due when somebody asks next."""
        for seq in islice(self._deadlines.due(now), JOB_BATCH):
            job = self.jobs[seq]
            if job.expires is None:
                self._requeue(seq, job)
            else:
                self._fail(seq, job, job.expires, "the lease expired")

    # Settling

    def settle(self, action: Action, seq: int, attempt: int | None, now: float, seconds: float | None) -> Outcome:
        """End or extend the lease of the attempt, or (None) whichever it is. `seconds`: a nack's delay (None: the
        backoff), an extension's length (None: the ack_timeout). Time must have passed until now."""
        job = self.jobs.get(seq)
        if job is None:
            return self._settled(action, seq)
        if job.expires is None or job.expires <= now or attempt not in {None, job.attempt}:
            return Outcome.EXPIRED
        self.dirty[seq] = None
        match action:
            case Action.ACK:
                self._end_lease(seq, job)
                del self.jobs[seq]
                self.acked += 1
            case Action.EXTEND:
                job.expires = now + (self.settings.ack_timeout if seconds is None else seconds)
                self._deadlines.set(seq, job.expires)
            case Action.NACK:
                self._fail(seq, job, now, "nack", seconds)
            case Action.RETURN:
                self._fail(seq, job, now, "the worker's connection was lost")
            case Action.RELEASE:
                self._end_lease(seq, job)
                job.excused += 1
                self._requeue(seq, job)
        return Outcome.DONE

    def _settled(self, action: Action, seq: int) -> Outcome:
        """For a message that is no job: never handed out, or over."""
        if not self.begin < seq <= self.cursor:
            return Outcome.UNKNOWN
        return Outcome.DONE if action is Action.ACK and seq not in self.recent_dead else Outcome.EXPIRED

    def _end_lease(self, seq: int, job: InFlight) -> None:
        job.expires = None
        self.leased -= 1
        self._deadlines.discard(seq)
        self.ended_leases.append((seq, job.attempt))

    def _fail(self, seq: int, job: InFlight, at: float, reason: str, delay: float | None = None) -> None:
        self._end_lease(seq, job)
        self.dirty[seq] = None
        job.first_failure = at if job.first_failure is None else job.first_failure
        job.last_failure, job.reason = at, reason
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
        """The dying job is in the dead-letter topic now. Returns a message that is no longer remembered for it."""
        del self.jobs[seq], self.dead_letter_pending[seq]
        self.dirty[seq] = None
        self.dead += 1
        self.recent_dead[seq] = None
        if len(self.recent_dead) <= MAX_RECENT_DEAD:
            return None
        forgotten = next(iter(self.recent_dead))
        del self.recent_dead[forgotten]
        return forgotten

    def postpone(self, seq: int, until: float) -> None:
        """The dead-letter topic has no room for the dying job: it waits there, and nobody gets it."""
        del self.dead_letter_pending[seq]
        self.postponed[seq] = None
        self.dirty[seq] = None
        self.jobs[seq].due = until
        self._deadlines.set(seq, until)
