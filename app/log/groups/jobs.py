"""The jobs of a group: the messages that it has handed out, and that are neither acked nor dead.

Here it is decided when a lease is over, how long a job waits for its next attempt, and when it is out of attempts. A
lease past its end is over, even if no call has noticed that yet.
"""

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Final

import msgspec

from ...messages.lease import LEASE_EXPIRED
from ..deadlines import Deadlines
from .job import BACKOFF, InFlight, JobState

JOB_BATCH: Final = 100  # jobs that one call handles: a few milliseconds, after which other work gets its turn

_UNSORTED: Final = 1 << 62  # a seq after all others


class Jobs(msgspec.Struct, gc=False, eq=False):
    """`max_deliveries`: the attempts after which a job is out of attempts."""

    max_deliveries: int
    by_seq: dict[int, InFlight] = msgspec.field(default_factory=dict)  # in the order in which they became jobs
    leased: int = 0
    nbytes: int = 0  # bytes of memory that the jobs take besides JOB_COST
    ended_leases: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """Seq and attempt of leases that the caller has to report."""

    dead_letter_pending: dict[int, None] = msgspec.field(default_factory=dict)
    """Jobs out of attempts: the caller removes or postpone()s them."""

    postponed: dict[int, None] = msgspec.field(default_factory=dict)
    """Jobs out of attempts that wait for room in the dead-letter topic."""

    dirty: dict[int, None] = msgspec.field(default_factory=dict)
    """Messages whose record has changed since the caller last cleared this."""

    _newest: int = 0  # the last of `by_seq` while they are sorted by seq; _UNSORTED otherwise
    _deadlines: Deadlines[int] = msgspec.field(default_factory=Deadlines)  # the end of the lease or the delay
    _requeued: list[int] = msgspec.field(default_factory=list)
    """A heap of jobs that are ready again; it may contain jobs that are gone."""

    @classmethod
    def restore(cls, records: Mapping[int, InFlight], max_deliveries: int, server_run: str) -> "Jobs":
        """`records`: by seq, the oldest first. A lease that is bound to a connection of an earlier run of the server
        (another `server_run`) is over: its message is due at once."""
        jobs = cls(max_deliveries, {**records})
        jobs._newest = max(records, default=0)
        for seq, job in records.items():
            if job.expires is not None and job.bound not in {"", server_run}:
                job.expires, job.due = None, 0.0
                job.excused += 1
            jobs.leased += job.expires is not None
            jobs.nbytes += job.nbytes
            if job.expires is None and job.tries >= max_deliveries:
                jobs.postponed[seq] = None
            jobs._deadlines.set(seq, job.due if job.expires is None else job.expires)
        return jobs

    def rows(self) -> Iterator[tuple[int, InFlight, float | None]]:
        """Each job in order: its seq, the job, and when its lease or its delay ends."""
        return ((seq, job, self._deadlines.get(seq)) for seq, job in self.by_seq.items())

    def put(self, seq: int, job: InFlight, ends: float | None) -> None:
        """Add one of the rows()."""
        self.add(seq, job)
        del self.dirty[seq]
        self.leased += job.expires is not None
        self.nbytes += job.nbytes
        if ends is not None:
            self._deadlines.set(seq, ends)

    @property
    def queue(self) -> Sequence[int]:
        """The jobs that are ready again, oldest first; some of them may be gone."""
        return sorted(self._requeued)

    @queue.setter
    def queue(self, seqs: Sequence[int]) -> None:
        self._requeued = [*seqs]

    # State

    def state_of(self, seq: int) -> JobState | None:
        """The state of a job; None if the message is none."""
        job = self.by_seq.get(seq)
        if job is None:
            return None
        if job.expires is not None:
            return JobState.LEASED
        return JobState.DELAYED if seq in self._deadlines or seq in self.dead_letter_pending else JobState.READY

    @property
    def oldest(self) -> int | None:
        """Its seq."""
        jobs = self.by_seq
        return min(jobs, default=None) if self._newest == _UNSORTED else next(iter(jobs), None)

    @property
    def deadline(self) -> float:
        """When the next lease or delay ends; inf if there is none."""
        return self._deadlines.next()

    @property
    def requeued(self) -> int:
        """How many are ready again."""
        return len(self.by_seq) - len(self._deadlines) - len(self.dead_letter_pending)

    @property
    def delayed(self) -> int:
        """How many wait for their next attempt, or for room in the dead-letter topic."""
        return len(self.by_seq) - self.requeued - self.leased

    # Coming, being leased and leaving

    def add(self, seq: int, job: InFlight) -> None:
        """A message becomes a job. The caller must lease() it, requeue() it, or have it wait until its key is free."""
        self._newest = seq if not self.by_seq or seq > self._newest else _UNSORTED
        self.by_seq[seq] = job
        self.dirty[seq] = None

    def add_due(self, seq: int, job: InFlight, now: float) -> None:
        """A message becomes a job that is ready when it is due."""
        self.add(seq, job)
        if job.due > now:
            self._deadlines.set(seq, job.due)
        else:
            heappush(self._requeued, seq)

    def take_requeued(self) -> int | None:
        """Remove from the queue and return the oldest job that is ready again."""
        while self._requeued:
            seq = heappop(self._requeued)
            if seq in self.by_seq:
                return seq
        return None

    def take_all_requeued(self) -> list[int]:
        """Remove from the queue and return the jobs that are ready again; some of them may be gone."""
        taken, self._requeued = self._requeued, []
        return taken

    def lease(self, seq: int, job: InFlight, now: float, expires: float, *, bound: str, holder: str) -> None:
        job.attempt += 1
        job.expires, job.bound, job.holder, job.since = expires, bound, holder, now
        self.leased += 1
        self.dirty[seq] = None
        self._deadlines.set(seq, expires)

    def hold_key(self, job: InFlight, key: str) -> None:
        self.nbytes -= job.nbytes
        job.key = key
        self.nbytes += job.nbytes

    def remove(self, seq: int) -> InFlight | None:
        """None if the message was no job. Whoever removes a job that may be leased or delayed calls end_wait()."""
        job = self.by_seq.pop(seq, None)
        if job is not None:
            if job.reason or job.key:
                self.nbytes -= job.nbytes
            self.dirty[seq] = None
        return job

    def end_wait(self, seq: int, job: InFlight) -> None:
        """The job is neither leased nor delayed any more."""
        if job.expires is not None:
            self.end_lease(seq, job)
        self._deadlines.discard(seq)
        self.dead_letter_pending.pop(seq, None)
        self.postponed.pop(seq, None)

    # The end of a lease

    @staticmethod
    def is_leased(job: InFlight, attempt: int | None, now: float) -> bool:
        """Whether the lease of this attempt (None: the current one) goes on."""
        return job.expires is not None and job.expires > now and attempt in {None, job.attempt}

    def pass_time(self, now: float) -> None:
        """End leases and delays that are due, at most JOB_BATCH; the rest remains due for the next call."""
        for seq in islice(self._deadlines.due(now), JOB_BATCH):
            job = self.by_seq[seq]
            if job.expires is None:
                self.requeue(seq, job)
            else:
                self.fail(seq, job, job.expires, LEASE_EXPIRED)

    def extend(self, seq: int, job: InFlight, expires: float) -> None:
        self.dirty[seq] = None
        job.expires = expires
        self._deadlines.set(seq, expires)

    def end_lease(self, seq: int, job: InFlight) -> None:
        job.expires = None
        self.leased -= 1
        self._deadlines.discard(seq)
        self.ended_leases.append((seq, job.attempt))

    def fail(self, seq: int, job: InFlight, at: float, reason: str, delay: float | None = None) -> None:
        """The attempt has failed. `delay`: until the next one (None: the backoff)."""
        self.end_lease(seq, job)
        self.dirty[seq] = None
        job.first_failure = at if job.first_failure is None else job.first_failure
        self.nbytes -= job.nbytes
        job.last_failure, job.reason = at, reason
        self.nbytes += job.nbytes
        wait = BACKOFF[min(job.tries, len(BACKOFF)) - 1] if delay is None else delay
        job.due = at + wait
        if wait and job.tries < self.max_deliveries:
            self._deadlines.set(seq, job.due)
        else:
            self.requeue(seq, job)

    def excuse(self, seq: int, job: InFlight) -> None:
        """End the lease; the attempt does not count."""
        self.dirty[seq] = None
        self.end_lease(seq, job)
        job.excused += 1
        self.requeue(seq, job)

    def release(self, seq: int, job: InFlight) -> None:
        """The job is ready at once, also if it is leased or delayed."""
        self.dirty[seq] = None
        if job.expires is not None:
            self.excuse(seq, job)
        elif seq in self._deadlines:
            self.end_wait(seq, job)
            job.due = 0.0
            self.requeue(seq, job)

    def requeue(self, seq: int, job: InFlight) -> None:
        """The job is ready again, or out of attempts."""
        self.postponed.pop(seq, None)
        if job.tries < self.max_deliveries:
            heappush(self._requeued, seq)
        else:
            self.dead_letter_pending[seq] = None

    def free(self, seq: int) -> None:
        """The job waited until its key was free, and is ready."""
        heappush(self._requeued, seq)

    # Dead letters

    def postpone(self, seq: int, until: float) -> None:
        """The dead-letter topic has no room for the pending job: try again at `until`. Nobody gets it in between."""
        del self.dead_letter_pending[seq]
        self.postponed[seq] = None
        self._wait_until(seq, until)

    def retry(self, seq: int, now: float) -> None:
        """Try a postponed job again at once."""
        if seq in self.postponed:
            self._wait_until(seq, now)

    def _wait_until(self, seq: int, due: float) -> None:
        self.dirty[seq] = None
        self.by_seq[seq].due = due
        self._deadlines.set(seq, due)
