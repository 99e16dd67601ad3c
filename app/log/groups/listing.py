"""Listing the messages of a group in one state of their life, without taking them."""

from collections.abc import Iterable, Iterator
from heapq import merge, nsmallest
from itertools import islice
from typing import Final

import msgspec

from ...messages.message import Message
from ..log import Log
from ..slices import LOOK_EFFORT, Slices, sliced
from .group import Group
from .groups import Groups
from .job import InFlight, JobState

_NO_END: Final = 1 << 62


class JobQuery(msgspec.Struct, frozen=True):
    """Which jobs: those of a group that are in this state, with a greater seq than `after`; at most `limit`, and no
    more once their bodies have `nbytes` bytes."""

    topic: str
    group: str
    state: JobState
    after: int
    limit: int
    nbytes: int = 1 << 20


class ListedJob(msgspec.Struct, frozen=True):
    """A message of a group, and what is known of it as a job (None: it was never handed out, or it is dead). Times in
    the job are by the log's own clock, which is `ahead` seconds behind the wall clock."""

    message: Message
    state: JobState
    job: InFlight | None
    ahead: float


class JobPage(msgspec.Struct, frozen=True):
    """Jobs in the order of the log. `next`: the id after which the next page begins; None if there is none."""

    jobs: list[ListedJob]
    next: str | None


class JobListing:
    def __init__(self, log: Log, groups: Groups) -> None:
        self._log = log
        self._groups = groups

    def page(self, query: JobQuery, now: float) -> Slices[JobPage]:
        """Raises NotFound."""
        seqs = yield from self._seqs(query, now)
        found: list[ListedJob] = []
        left = query.nbytes
        for part in sliced(seqs[: query.limit], LOOK_EFFORT):
            for seq in part:
                if left <= 0:
                    return JobPage(found, found[-1].message.id)
                if listed := self._look_up(query, seq, now):
                    found.append(listed)
                    left -= len(listed.message.data)
            yield
        last = seqs[query.limit - 1] if len(seqs) > query.limit else None
        return JobPage(found, None if last is None else f"{self._log.epochs.of(last)}-{last}")

    def _group(self, query: JobQuery) -> Group:
        return self._groups.existing(query.topic, query.group)

    def _place(self, query: JobQuery) -> str:
        """The topic that has the messages."""
        settings = self._group(query).settings
        return settings.dead_letter if query.state is JobState.DEAD else query.topic

    def _seqs(self, query: JobQuery, now: float) -> Slices[list[int]]:
        """The first candidates in ascending order, one more than the limit if there are so many."""
        group, limit = self._group(query), query.limit + 1
        if query.state is JobState.DEAD:
            return (yield from _smallest(self._dead(query), query.after, limit))
        chosen = (seq for seq in [*group.jobs.by_seq] if group.jobs.state_of(seq) is query.state)
        jobs = yield from _smallest(chosen, query.after, limit)
        if query.state is not JobState.READY:
            return jobs
        return [*islice(merge(jobs, self._fresh(query, now, limit)), limit)]

    def _dead(self, query: JobQuery) -> list[int]:
        place = self._log.topics.get(self._place(query))
        unacked = None if place is None else place.unacked
        return [] if unacked is None else [*unacked.dead.of((query.topic, query.group))]

    def _fresh(self, query: JobQuery, now: float, limit: int) -> Iterator[int]:
        """The first messages that were never handed out: one more than the bytes allow, so that the page ends there."""
        left = query.nbytes
        every = self._groups.fresh(query.topic, self._group(query), query.after, _NO_END)
        for message in islice((message for message in every if not message.expired(now)), limit):
            yield message.seq
            if left <= 0:
                break
            left -= len(message.data)

    def _look_up(self, query: JobQuery, seq: int, now: float) -> ListedJob | None:
        """None if the message is no longer there, or has changed its state since it was selected."""
        place = self._log.topics.get(self._place(query))
        message = None if place is None else place.messages.get(seq)
        if message is None or message.expired(now):
            return None
        if query.state is JobState.DEAD:
            return ListedJob(message, query.state, None, self._log.clock.ahead)
        group = self._group(query)
        fresh = seq > group.cursor and seq not in group.ahead
        known = group.jobs.state_of(seq) or (JobState.READY if fresh else None)
        if known is not query.state:
            return None
        job = group.jobs.by_seq.get(seq)
        copy = None if job is None else msgspec.structs.replace(job)  # it may change before it is read
        return ListedJob(message, query.state, copy, self._log.clock.ahead)


def _smallest(seqs: Iterable[int], after: int, limit: int) -> Slices[list[int]]:
    """The `limit` smallest of the seqs that are greater than `after`."""
    found: list[int] = []
    for part in sliced(seqs):
        found = nsmallest(limit, [*found, *(seq for seq in part if seq > after)])
        yield
    return found
