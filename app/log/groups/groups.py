"""All groups of a log: they claim and settle leases, and let time pass. GroupEvents has what consumers must learn.

Like the log, plain data and pure functions of the time they are given.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf
from typing import Final

import msgspec

from ...errors import NotFound
from ...messages.lease import Action, Lease, LeaseId, Outcome, reason_cost
from ...messages.message import Id, Message
from ..changes import OnChange, Records, ignore_change
from ..deadlines import Deadlines
from ..log import Log
from ..run import Run
from ..topic_log import TopicLog, TopicRecord
from ..trimmer import Trimmer
from .choice import Choice, key_of
from .dead_index import DeadIndex, Origin
from .events import NO_EVENTS, GroupEvents
from .group import Group
from .job import JOB_COST, SETTLED, InFlight
from .records import GroupRecord
from .stored import stored_groups
from .unacked import UnackedIndex

PASS_BATCH: Final = 2_000  # messages that one call moves a cursor past, or skips: a few milliseconds
GROUP_BATCH: Final = 10  # groups whose deadlines one call handles: a few milliseconds, then other work gets its turn

_FINAL: Final = frozenset({Action.ACK, Action.SKIP})


class Settled(msgspec.Struct):
    """Messages since the server's start: acked, dead, and what operators did with others."""

    acked: int = 0
    dead: int = 0
    redriven: int = 0
    released: int = 0
    skipped: int = 0
    purged: int = 0
    cancelled: int = 0


class Groups:
    def __init__(self, log: Log, trimmer: Trimmer, on_change: OnChange = ignore_change) -> None:
        """`on_change` is called for each change that an engine may have to store."""
        self._events = GroupEvents()
        self._on_change = on_change
        self._log = log
        self._trimmer = trimmer
        self.deadlines: Deadlines[tuple[str, str]] = Deadlines()  # the earliest deadline of each group
        self.dead_letter_pending: dict[tuple[str, str], None] = {}  # groups with messages that are out of attempts
        self.closing: dict[tuple[str, str], None] = {}  # groups that are being dropped
        self.settled = Settled()
        self.bound: dict[tuple[str, str, int], str] = {}  # leases of other nodes' connections: the node of each
        self.starved: dict[tuple[str, str], None] = {}  # groups that had no memory for another lease

    @property
    def has_events(self) -> bool:
        return bool(self._events.ended or self._events.ready)

    def take_events(self) -> GroupEvents:
        if self.starved and self._log.memory.left() >= JOB_COST:
            self._events.ready |= self.starved
            self.starved = {}
        if not self.has_events:
            return NO_EVENTS
        events, self._events = self._events, GroupEvents()
        return events

    @property
    def deadline(self) -> float:
        """When the next pass_time() has work. 0.0: at once."""
        return 0.0 if self.closing or self.dead_letter_pending else self.deadlines.next()

    # State records

    def restore(self, records: Records, server_run: str) -> None:
        """Restore stored groups. The log must have been restored before. `server_run`: leases that are bound to a
        connection of another run are over."""
        for topic, names in stored_groups(records, server_run).items():
            held: TopicRecord = records["topic"][topic,]
            topic_log = self._log.existing(topic)
            dead = topic_log.unacked.dead if topic_log.unacked else DeadIndex()
            topic_log.unacked = UnackedIndex(names, held.held, held.held_bytes, held.accepted, dead)
            if dead:  # files of older versions did not count them
                topic_log.unacked.recount(topic_log.messages)
            for name, group in names.items():
                passed = records["group"][topic, name].passed  # None in files of older versions
                group.passed = (
                    held.accepted - topic_log.messages.count_after(group.cursor) if passed is None else passed
                )
                if group.closing:
                    self.closing[topic, name] = None
                self.refresh(topic, name, group)

    def group_record(self, topic: str, name: str) -> GroupRecord | None:
        group = self.of(topic).get(name)
        return group.record() if group else None

    def job_record(self, topic: str, name: str, seq: int) -> InFlight | None:
        group = self.of(topic).get(name)
        if group is None:
            return None
        return SETTLED if seq in group.ahead else group.jobs.by_seq.get(seq)

    def dead_record(self, topic: str, name: str, seq: int) -> bool | None:
        group = self.of(topic).get(name)
        return True if group is not None and seq in group.recent_dead else None

    def pause(self, topic: str, name: str, paused: bool) -> None:
        """Hand out nothing until the group is resumed. Leases stay as they are, and can be settled. Raises NotFound."""
        self.existing(topic, name).paused = paused
        self._on_change("group", (topic, name))
        self.wake(topic, name)

    def wake(self, topic: str, name: str) -> None:
        """The group may have messages to hand out."""
        self._events.ready[topic, name] = None

    def close(self, topic: str, name: str, group: Group) -> None:
        """Begin to drop the group: clients no longer see it. GroupAdmin releases its messages."""
        group.closing = True
        self.closing[topic, name] = None
        self.deadlines.discard((topic, name))
        self.dead_letter_pending.pop((topic, name), None)
        self._on_change("group", (topic, name))
        self._events.ready[topic, name] = None  # consumers that wait for it must learn that it is gone

    def dead_in(self, origin: Origin, dead_letter: str) -> int:
        """The number of the group's dead messages in this dead-letter topic."""
        topic = self._log.topics.get(dead_letter)
        return topic.unacked.dead.count(origin) if topic is not None and topic.unacked is not None else 0

    @staticmethod
    def ready_in(topic: TopicLog, group: Group) -> int:
        """The number of messages that are ready in the group."""
        assert topic.unacked is not None
        return group.jobs.requeued + topic.unacked.accepted - group.passed

    def of(self, topic: str) -> dict[str, Group]:
        topic_log = self._log.topics.get(topic)
        return topic_log.unacked.groups if topic_log and topic_log.unacked else {}

    def exists(self, topic: str, name: str) -> bool:
        group = self.of(topic).get(name)
        return group is not None and not group.closing

    def existing(self, topic: str, name: str) -> Group:
        self._log.existing(topic)
        group = self.of(topic).get(name)
        if group is None or group.closing:
            raise NotFound(f"topic {topic!r} has no group {name!r}")
        return group

    # Leases that are bound to a node

    def bound_to(self, node: str) -> Iterator[tuple[str, str, int]]:
        """The topic, the group and the seq of each lease that is bound to a connection of the node, if there are many
        nodes."""
        return (lease for lease, holder in self.bound.items() if holder == node)

    def excuse(self, topic: str, name: str, seq: int) -> None:
        """End the lease, whose connection is gone; the attempt does not count."""
        del self.bound[topic, name, seq]
        group = self.of(topic).get(name)
        job = group.jobs.by_seq.get(seq) if group else None
        if group is not None and job is not None and job.expires is not None:
            group.jobs.excuse(seq, job)
            self.refresh(topic, name, group)

    # Claiming

    def published(self, topic: TopicLog) -> None:
        """The topic has a new message."""
        if topic.unacked is not None:
            for name in topic.unacked.groups:
                self._events.ready[topic.name, name] = None

    def claim(
        self, topic: str, name: str, *, count: int, nbytes: int, seconds: float | None, now: float, bound: str = "",
        holder: str = "",
    ) -> list[Lease]:  # fmt: skip
        """Lease at most `count` messages for `seconds` (None: the group's ack_timeout), and no more once their bodies
        have `nbytes` bytes. `bound`: the run of a server with which the leases end at the latest; empty if they are not
        bound to a connection. `holder`: the consumer, for people. Raises NotFound, LogFull."""
        group = self.existing(topic, name)
        if group.paused:
            return []
        expires = now + (group.settings.ack_timeout if seconds is None else seconds)
        leases: list[Lease] = []
        for message in self._claimable(topic, name, group, now):
            attempt = group.lease(message.seq, now, expires, bound=bound, holder=holder, key=key_of(message))
            leases.append(Lease(message, attempt, expires + self._log.clock.ahead))
            if bound and self._log.single_delivery.node:
                self.bound[topic, name, message.seq] = bound
            nbytes -= len(message.data)
            if len(leases) == count or nbytes <= 0:
                break
        self.refresh(topic, name, group)
        if not leases and self._log.memory.left() < JOB_COST and next(self._new(topic, group, now), None):
            self.starved[topic, name] = None
            self._log.memory.check(JOB_COST)
        return leases

    def _claimable(self, topic: str, name: str, group: Group, now: float) -> Iterator[Message]:
        """The messages to hand out, one by one. The caller must lease each before it asks for the next."""
        if group.precedence is not None or self._log.ordered.of(topic) is not None:
            choice = Choice(self._log, self._log.existing(topic), group, lambda seq: self.message(topic, seq, now))
            yield from choice
            if choice.cut_short:
                self.wake(topic, name)
            return
        while (seq := group.jobs.take_requeued()) is not None:
            if message := self.message(topic, seq, now):
                yield message
        yield from islice(self._new(topic, group, now), max(self._log.memory.left() // JOB_COST, 0))

    def _new(self, topic: str, group: Group, now: float) -> Iterator[Message]:
        """The messages to hand out for the first time. Expired ones are removed on the way."""
        for message in self.fresh(topic, group):
            if message.expired(now):
                self._log.remove(message)
            else:
                yield message

    def fresh(self, topic: str, group: Group, after: int = 0, most_known: int = PASS_BATCH) -> Iterator[Message]:
        """The messages after a seq that the group has yet to hand out for the first time, expired ones too. It ends
        behind so many that are jobs or settled already: refresh() moves the cursor past those."""
        begin = max(group.cursor, after)
        for run in self._log.existing(topic).messages.after(begin):
            if run.for_all and run.first > group.newest_known:
                yield from run.after(begin)
            elif run.for_all:
                for message in run.after(begin):
                    if not group.is_known(message.seq):
                        yield message
                    elif most_known := most_known - 1:
                        continue
                    else:
                        return

    def message(self, topic: str, seq: int, now: float) -> Message | None:
        """None if it is gone. An expired message is removed, together with its jobs."""
        run = self._find_unexpired(topic, seq, now)
        return None if run is None else run.get(seq)

    def _find_unexpired(self, topic: str, seq: int, now: float) -> Run | None:
        """The run that has the message. An expired message is removed, together with its jobs."""
        run = self._log.existing(topic).messages.find(seq)
        if run is None or not run.expired(now):
            return run
        self._log.remove(next(run.messages))
        return None

    # Settling

    def settle(
        self, topic: str, name: str, action: Action, ids: Sequence[LeaseId], *, seconds: float | None, now: float,
        reason: str | None = None,
    ) -> list[Outcome]:  # fmt: skip
        """The outcome for each id. `seconds`: a nack's delay (None: the backoff) or an extension's length (None: the
        group's ack_timeout). `reason`: why the work failed; it is not kept when memory is short. pass_time(now) must
        have been called before. Raises NotFound."""
        group = self.existing(topic, name)
        topic_log = self._log.existing(topic)
        if reason is not None and self._log.memory.left() < reason_cost(reason) * len(ids):
            reason = None
        jobs = dict.fromkeys(seq for id in ids if (seq := id.message.seq) in group.jobs.by_seq)
        before, skipped = group.acked, group.skipped
        outcomes = [self._settle(topic_log, group, action, id, now=now, seconds=seconds, reason=reason) for id in ids]
        self.settled.acked += group.acked - before
        self.settled.skipped += group.skipped - skipped
        self.settled.released += outcomes.count(Outcome.DONE) if action is Action.RELEASE else 0
        if action in _FINAL:
            self._trimmer.settled(topic_log, [seq for seq in jobs if seq not in group.jobs.by_seq])
        self.refresh(topic, name, group)
        return outcomes

    def _settle(
        self, topic_log: TopicLog, group: Group, action: Action, id: LeaseId, *, now: float, seconds: float | None,
        reason: str | None,
    ) -> Outcome:  # fmt: skip
        seq = id.message.seq
        run = self._find_unexpired(topic_log.name, seq, now)
        exists = seq in group.jobs.by_seq or (run is not None and run.for_all)
        if not exists or not self._log.epochs.knows(id.message):
            return Outcome.UNKNOWN
        if action is Action.SKIP and seq not in group.jobs.by_seq and seq > group.cursor and seq not in group.ahead:
            self._log.memory.check(JOB_COST)
            group.skip_ahead(seq)
            return Outcome.DONE
        return group.settle(action, seq, id.attempt, now, seconds, reason=reason)

    # Time

    def pass_time(self, now: float) -> None:
        """Do what is due, for a few milliseconds at most; the rest remains due."""
        self.check()
        for topic, name in islice(self.deadlines.due(now), GROUP_BATCH):
            group = self.existing(topic, name)
            group.jobs.pass_time(now)
            self.refresh(topic, name, group)

    def check(self) -> None:
        """Report the changes of groups that have lost messages."""
        for topic in tuple(self._log.groups_to_check):
            del self._log.groups_to_check[topic]
            for name, group in self.of(topic).items():
                self.refresh(topic, name, group)

    def refresh(self, topic: str, name: str, group: Group) -> None:
        """Report a group's changes: its size and dirty records, its deadline, and the events for consumers."""
        key = topic, name
        if group.newest_known > group.cursor or group.ahead:
            self._pass_known(key, group)
        self._log.memory.count_group(group, group.size)
        if group.closing or group.jobs.deadline == inf:
            self.deadlines.discard(key)
        else:
            self.deadlines.set(key, group.jobs.deadline)
        self._report_ended(topic, name, group.jobs.ended_leases)
        group.jobs.ended_leases.clear()
        if group.jobs.dirty:
            self._on_change("group", key)
            for seq in group.jobs.dirty:
                self._on_change("job", (topic, name, seq))
            group.jobs.dirty.clear()
        if group.jobs.requeued > group.waiting:
            self._events.ready[key] = None
        if group.jobs.dead_letter_pending and not group.closing:
            self.dead_letter_pending[key] = None

    def _pass_known(self, key: tuple[str, str], group: Group) -> None:
        """Move the cursor past the messages behind it that are jobs or settled, and release the settled ones."""
        topic, begin, left = self._log.existing(key[0]), group.cursor, PASS_BATCH
        for seq in (seq for run in topic.messages.after(begin) if run.for_all for seq in run.seqs if seq > begin):
            if not (left and group.is_known(seq)):
                break
            group.cursor = seq
            left -= 1
        self._trimmer.settled(topic, [*group.take_passed()])
        if not left:
            self._events.ready[key] = None

    def _report_ended(self, topic: str, name: str, leases: Sequence[tuple[int, int]]) -> None:
        of = self._log.epochs.of
        if self.bound:
            for seq, _ in leases:
                self.bound.pop((topic, name, seq), None)
        self._events.ended += [(topic, name, LeaseId(Id(of(seq), seq), attempt)) for seq, attempt in leases]
