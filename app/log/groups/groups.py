"""All groups over a log: which message a worker gets, and what follows when time passes or a lease is settled.

Like the log, plain data and functions of the time they are given. What workers must hear of is put into News.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from ...errors import GroupLimit, NotFound, OptionInvalid
from ...messages.lease import Action, Lease, LeaseId, Outcome
from ...messages.message import Death, Draft, Envelope, Id, Message
from ...messages.position import EARLIEST, Cursor, Gap, GapReason, Start
from ...messages.topic import TopicFilter, dead_letter_of
from ..changes import OnChange, Records, ignore_change
from ..deadlines import Deadlines
from ..log import Log
from ..reading import Reading
from ..run import Run
from ..slices import Slices
from ..topic_log import TopicLog, TopicRecord
from ..totals import Totals
from .group import JOB_BATCH, JOB_COST, DeadLetters, Group, GroupRecord, GroupSettings, GroupState, InFlight
from .unacked import Counting, UnackedIndex

DEAD_LETTER_BATCH: Final = 25  # messages that die at once: each is published to another topic
GROUP_BATCH: Final = (
    10  # groups in which something is due that is done at once: some milliseconds, then others get their turn
)


class DeadLetterPending(msgspec.Struct, frozen=True):
    """A message that is out of attempts, and what to publish in its stead."""

    topic: str
    group: str
    seq: int
    draft: Draft


class GroupObserver(Protocol):
    """Who hands out work, and is told when there may be some."""

    def ready(self, topic: str, group: str) -> None:
        """The group may have something to hand out, or is gone."""

    def released(self, topic: str, group: str, lease: LeaseId) -> None:
        """That lease (its attempt is always named) is over, however it came. Told once."""


class GroupEvents(msgspec.Struct):
    """`ended`: leases that are over (topic, group, lease). `ready`: groups that may have something to hand out."""

    ended: list[tuple[str, str, LeaseId]] = msgspec.field(default_factory=list)
    ready: dict[tuple[str, str], None] = msgspec.field(default_factory=dict)

    def notify(self, works: GroupObserver) -> None:
        for topic, group, lease in self.ended:
            works.released(topic, group, lease)
        for topic, group in self.ready:
            works.ready(topic, group)


NO_EVENTS: Final = GroupEvents()


class Groups:
    def __init__(
        self, log: Log, reading: Reading, max_groups: int, on_change: OnChange = ignore_change, life: str = "memory"
    ) -> None:  # fmt: skip
        """A topic has at most `max_groups` groups. `on_change` is called for each change that an engine may have to
        write down. `life` names this run of the server: the connections of earlier runs are closed."""
        self._events = GroupEvents()
        self._on_change = on_change
        self._log = log
        self._reading = reading
        self._max_groups = max_groups
        self._life = life
        self._deadlines: Deadlines[tuple[str, str]] = Deadlines()  # of groups: the first thing due in each
        self._dead_letter_pending: dict[tuple[str, str], None] = {}  # groups with dying messages
        self._closing: dict[tuple[str, str], None] = {}  # groups that are being dropped
        self._starved: dict[tuple[str, str], None] = {}  # groups that had no memory for another lease

    @property
    def has_events(self) -> bool:
        return bool(self._events.ended or self._events.ready)

    def take_events(self) -> GroupEvents:
        if self._starved and self._log.memory_left() >= JOB_COST:
            self._events.ready |= self._starved
            self._starved = {}
        if not self.has_events:
            return NO_EVENTS
        news, self._events = self._events, GroupEvents()
        return news

    @property
    def deadline(self) -> float | None:
        """When something is due next."""
        return self._deadlines.next()

    @property
    def busy(self) -> bool:
        """Something was begun that goes on when time passes."""
        return bool(self._closing or self._dead_letter_pending)

    # What an engine writes down

    def restore(self, notes: Records) -> None:
        """Take up where others left off, in a log that has been restored."""
        jobs: dict[tuple[str, str], dict[int, InFlight]] = {}
        for (topic, name, seq), job in notes["job"].items():
            jobs.setdefault((str(topic), str(name)), {})[int(seq)] = job
        buried: dict[tuple[str, str], list[int]] = {}
        for topic, name, seq in sorted(notes["buried"]):
            buried.setdefault((str(topic), str(name)), []).append(int(seq))
        groups: dict[str, dict[str, Group]] = {}
        for (topic, name), note in notes["group"].items():
            key = str(topic), str(name)
            known = jobs.get(key, {})
            oldest_first = {seq: known[seq] for seq in sorted(known)}
            groups.setdefault(key[0], {})[key[1]] = Group.restore(note, oldest_first, buried.get(key, ()), self._life)
        for topic, names in groups.items():
            held: TopicRecord = notes["topic"][topic,]
            log = self._log.existing(topic)
            dead = log.unacked.dead if log.unacked else None
            log.unacked = UnackedIndex(names, held.held, held.held_bytes, held.come, dead)
            if dead:  # a file of an older plainmq did not count them
                log.unacked.recount(log.ring)
            for name, group in names.items():
                passed = notes["group"][topic, name].passed  # None in a file of an older plainmq
                group.passed = held.come - log.ring.count(group.cursor) if passed is None else passed
                if group.closing:
                    self._closing[topic, name] = None
                self._refresh(topic, name, group)

    def group_record(self, topic: str, name: str) -> GroupRecord | None:
        group = self._groups_of(topic).get(name)
        return group.record() if group else None

    def job_record(self, topic: str, name: str, seq: int) -> InFlight | None:
        group = self._groups_of(topic).get(name)
        return group.jobs.get(seq) if group else None

    def dead_record(self, topic: str, name: str, seq: int) -> bool | None:
        group = self._groups_of(topic).get(name)
        return True if group is not None and seq in group.recent_dead else None

    # What groups there are

    def join(self, topic: str, name: str, now: float, *, make: bool) -> Slices[Gap | None]:
        """The group is there; if `make`, it and its topic are made. Returns what is gone of what it was to begin with,
        until it has handed something out. Raises NotFound, TopicLimit, GroupLimit, LogFull, OptionInvalid."""
        yield from self._closed(topic, name)
        if name not in self._groups_of(topic):
            yield from self.configure(topic, name, {}, None, now, make=make)
        return self._existing(topic, name).unreported_gap

    def configure(
        self, topic: str, name: str, changes: Mapping[str, Any], start: tuple[str, Start] | None, now: float, *,
        make: bool = True,
    ) -> Slices[None]:  # fmt: skip
        """Change fields of the group's settings; if `make`, the topic and the group are made if they are not there.
        `start` (the word, and what it means) says where a new group begins. Raises NotFound, OptionInvalid, TopicLimit,
        GroupLimit, LogFull."""
        yield from self._closed(topic, name)
        word, place = start or ("", EARLIEST)
        begin = yield from self._reading.locate(TopicFilter([topic]), place, now)
        if place is EARLIEST:  # all that there ever was, and not what is left of it
            begin = Cursor(0, 0, "earliest")
        counting = Counting(begin.seq)
        if make and name not in self._groups_of(topic):
            counting = yield from self._count(topic, begin.seq)
        group = self._groups_of(topic).get(name)
        if group is None and not make:
            raise NotFound(
                f"topic {topic!r} has no group {name!r}: its PUT or a first pull makes one, for who has the right to "
                f"admin on the topic and on its dead-letter topic"
            )
        settings = group.settings if group else GroupSettings(changes.get("dead_letter") or dead_letter_of(topic))
        word = word or settings.start
        if group is not None and word != settings.start:
            raise OptionInvalid(
                f"group {name!r} of {topic!r} began at {settings.start!r}, which cannot be changed: "
                f"delete the group and make it anew"
            )
        settings = msgspec.structs.replace(settings, start=word, **changes)
        leads_on = group is None or settings.dead_letter != group.settings.dead_letter
        if leads_on and self._leads_back(topic, settings.dead_letter):
            raise OptionInvalid(
                f"dead_letter is {settings.dead_letter!r}: what is dead there comes back to {topic!r}, and would go "
                f"round for ever"
            )
        self._on_change("group", (topic, name))
        if group is not None:
            group.configure(settings)
            self._refresh(topic, name, group)
        else:
            self._make(topic, name, settings, begin, counting, now=now)

    def _leads_back(self, topic: str, dead_letter: str) -> bool:
        """Whether a dead message, dying again and again, would be in the topic once more."""
        reached, ahead = {dead_letter}, [dead_letter]
        while ahead and topic not in reached:
            further = {group.settings.dead_letter for group in self._groups_of(ahead.pop()).values()} - reached
            reached |= further
            ahead += further
        return topic in reached

    def _count(self, topic: str, begin: int) -> Slices[Counting]:
        """What a group would have to do that begins there."""
        while log := self._log.topics.get(topic):
            counting, groups = Counting(begin), [*self._groups_of(topic).values()]
            counters = self._log.counters.setdefault(topic, [])
            counters.append(counting)
            try:
                while not counting.count_on(log.ring, log.unacked):
                    yield
            finally:
                counters.remove(counting)
                if not counters:
                    self._log.counters.pop(topic, None)
            if self._log.topics.get(topic) is log and [*self._groups_of(topic).values()] == groups:
                return counting
        return Counting(begin)

    def _make(
        self, topic: str, name: str, settings: GroupSettings, cursor: Cursor, counting: Counting, *, now: float
    ) -> None:
        if cursor.reason in {GapReason.EPOCH, GapReason.AHEAD}:
            raise OptionInvalid(
                f"{settings.start!r} is not a place in this log: it is of another epoch, or ahead of it"
            )
        log = self._log.make(topic, now)
        groups = self._groups_of(topic)
        if len(groups) >= self._max_groups:
            raise GroupLimit(f"topic {topic!r} has {len(groups)} groups, as many as a topic may have")
        group = Group(settings, cursor.seq, self._reading.missing(topic, cursor))
        self._log.add_group(log, name, group, counting)

    # A group that is dropped is gone for all who ask; what it holds is let go in slices, also after a restart

    def drop(self, topic: str, name: str) -> Slices[None]:
        """Raises NotFound."""
        self._close(topic, name, self._existing(topic, name))
        yield from self._closed(topic, name)

    def drop_all(self, topic: str) -> Slices[None]:
        """The topic is about to be dropped."""
        names = [*self._groups_of(topic)]
        for name in names:
            self._close(topic, name, self._groups_of(topic)[name])
        for name in names:
            yield from self._closed(topic, name)

    def _close(self, topic: str, name: str, group: Group) -> None:
        group.closing = True
        self._closing[topic, name] = None
        self._deadlines.discard((topic, name))
        self._dead_letter_pending.pop((topic, name), None)
        self._on_change("group", (topic, name))
        self._events.ready[topic, name] = None  # who waits for it shall learn that it is gone

    def _closed(self, topic: str, name: str) -> Slices[None]:
        """Until the group, if it is being dropped, is no more."""
        while not self._let_go(topic, name):
            yield

    def _let_go(self, topic: str, name: str) -> bool:
        """A slice of closing the group; whether it is no more, or is not closing."""
        if (topic, name) not in self._closing:
            return True
        log, group = self._log.existing(topic), self._groups_of(topic)[name]
        for seq in [*islice(group.jobs, JOB_BATCH)]:
            group.forget(seq)
            self._log.settled(log, seq)
        for seq in [*islice(group.recent_dead, JOB_BATCH)]:
            del group.recent_dead[seq]
            self._on_change("buried", (topic, name, seq))
        self._refresh(topic, name, group)
        if group.jobs or group.recent_dead or not self._pass_over(log, group):
            return False
        del self._closing[topic, name]
        self._on_change("group", (topic, name))
        self._log.remove_group(log, name)
        return True

    def _pass_over(self, log: TopicLog, group: Group) -> bool:
        """Let go some of what was never handed out, up to where the other groups are, which hold the rest: whether that
        was all."""
        end = min([other.cursor for other in self._groups_of(log.name).values() if other is not group], default=0)
        left = JOB_BATCH
        for run in [*islice(log.ring.after(group.cursor), JOB_BATCH)]:
            for seq in run.seqs:
                if seq <= group.cursor:
                    continue
                if seq > end or not left:
                    return seq > end
                left -= 1
                group.cursor = seq
                if run.for_all:
                    group.passed += 1
                    self._log.settled(log, seq)
        return left > 0

    def state(self, topic: str, name: str, now: float) -> GroupState:
        """Raises NotFound."""
        group = self._existing(topic, name)
        ring = self._log.existing(topic).ring
        begun = next(iter(group.jobs), None)
        oldest = next(self._fresh(topic, group, now), None) if begun is None else ring.get(begun)
        return GroupState(
            topic, name,
            ready=self._ready(self._log.existing(topic), group),
            leased=group.leased,
            delayed=group.delayed,
            acked=group.acked,
            dead=group.dead,
            oldest=oldest.id if oldest else None,
            oldest_time=oldest.time if oldest else None,
            gap=group.gap,
            dead_letters=self._dead_letters(group),
            settings=group.settings,
        )  # fmt: skip

    def _dead_letters(self, group: Group) -> DeadLetters:
        topic = self._log.topics.get(group.settings.dead_letter)
        retention = topic.retention if topic else self._log.limits.retention
        kept, nbytes = (topic.unacked.count, topic.unacked.bytes) if topic and topic.unacked else (0, 0)
        return DeadLetters(kept, nbytes, retention.max_messages, retention.max_bytes, len(group.postponed))

    def count(self, topic: TopicLog, totals: Totals) -> None:
        """Add the topic's groups, and its dead messages."""
        totals.dead_letters += len(topic.unacked.dead) if topic.unacked else 0
        for group in topic.unacked.groups.values() if topic.unacked else ():
            if group.closing:
                continue
            totals.groups += 1
            totals.ready += self._ready(topic, group)
            totals.leased += group.leased
            totals.delayed += group.delayed
            totals.acked += group.acked
            totals.dead += group.dead
            totals.postponed += len(group.postponed)

    @staticmethod
    def _ready(topic: TopicLog, group: Group) -> int:
        assert topic.unacked is not None
        return group.requeued + topic.unacked.accepted - group.passed

    def _groups_of(self, topic: str) -> dict[str, Group]:
        log = self._log.topics.get(topic)
        return log.unacked.groups if log and log.unacked else {}

    def _existing(self, topic: str, name: str) -> Group:
        self._log.existing(topic)
        group = self._groups_of(topic).get(name)
        if group is None or group.closing:
            raise NotFound(f"topic {topic!r} has no group {name!r}")
        return group

    # Handing out

    def published(self, topic: str) -> None:
        """There is a new message in the topic."""
        for name in self._groups_of(topic):
            self._events.ready[topic, name] = None

    def claim(
        self, topic: str, name: str, *, count: int, nbytes: int, seconds: float | None, now: float, bound: bool = False
    ) -> list[Lease]:
        """Lease at most `count` messages, and no more after `nbytes` bytes of bodies, for `seconds` (None: the group's
        ack_timeout). `bound`: to a connection, so that the lease ends with the server at the latest. Raises NotFound,
        LogFull."""
        group = self._existing(topic, name)
        expires = now + (group.settings.ack_timeout if seconds is None else seconds)
        leases: list[Lease] = []
        for message in self._claimable(topic, group, now):
            attempt = group.lease(message.seq, expires, self._life if bound else "")
            leases.append(Lease(message, attempt, expires + self._log.ahead))
            nbytes -= len(message.data)
            if len(leases) == count or nbytes <= 0:
                break
        self._refresh(topic, name, group)
        if not leases and self._log.memory_left() < JOB_COST and next(self._fresh(topic, group, now), None):
            self._starved[topic, name] = None
            self._log.check_memory(JOB_COST)
        return leases

    def _claimable(self, topic: str, group: Group, now: float) -> Iterator[Message]:
        """What a worker may have, one after the other; each must be leased before the next is asked for."""
        while (seq := group.take_requeued()) is not None:
            if message := self._message(topic, seq, now):
                yield message
        yield from islice(self._fresh(topic, group, now), max(self._log.memory_left() // JOB_COST, 0))

    def _fresh(self, topic: str, group: Group, now: float) -> Iterator[Message]:
        """What was never handed out. What has expired is given up on the way, so that nothing is held for it."""
        begin = group.cursor
        for run in self._log.existing(topic).ring.after(begin):
            if run.expired(now):
                self._log.remove(next(run.messages))  # what has a ttl is by itself
            elif run.for_all:
                yield from run.after(begin)

    def _message(self, topic: str, seq: int, now: float) -> Message | None:
        run = self._find(topic, seq, now)
        return None if run is None else run.get(seq)

    def _find(self, topic: str, seq: int, now: float) -> Run | None:
        """The run that has the message. One that has expired is given up, and so are its jobs."""
        run = self._log.existing(topic).ring.find(seq)
        if run is None or not run.expired(now):
            return run
        self._log.remove(next(run.messages))
        return None

    # Settling

    def settle(
        self, topic: str, name: str, action: Action, ids: Sequence[LeaseId], *, seconds: float | None, now: float
    ) -> list[Outcome]:
        """What became of each. `seconds`: a nack's delay (None: the backoff), an extension's length (None: the group's
        ack_timeout). Time must have passed until now. Raises NotFound."""
        group = self._existing(topic, name)
        log = self._log.existing(topic)
        outcomes = [self._settle(log, group, action, id, seconds=seconds, now=now) for id in ids]
        self._refresh(topic, name, group)
        return outcomes

    def _settle(
        self, log: TopicLog, group: Group, action: Action, id: LeaseId, *, seconds: float | None, now: float
    ) -> Outcome:
        seq = id.message.seq
        run = self._find(log.name, seq, now)
        begun = seq in group.jobs
        here = begun or (run is not None and run.for_all)
        if not here or not self._log.epochs.knows(id.message):
            return Outcome.UNKNOWN
        outcome = group.settle(action, seq, id.attempt, now, seconds)
        if begun and outcome is Outcome.DONE and action is Action.ACK:  # an ack may come twice
            self._log.settled(log, seq)
        return outcome

    # Time

    def pass_time(self, now: float) -> None:
        """Do what is due by now, but no more than some milliseconds allow."""
        for topic, name in [*islice(self._closing, 1)]:
            self._let_go(topic, name)
        for topic in tuple(self._log.groups_to_check):
            del self._log.groups_to_check[topic]
            for name, group in self._groups_of(topic).items():
                self._refresh(topic, name, group)
        for topic, name in islice(self._deadlines.due(now), GROUP_BATCH):
            group = self._existing(topic, name)
            group.pass_time(now)
            self._refresh(topic, name, group)

    def _refresh(self, topic: str, name: str, group: Group) -> None:
        """Something has changed in the group: note what follows."""
        self._log.count_group(group, group.size)
        key = topic, name
        if group.closing or (deadline := group.deadline) is None:
            self._deadlines.discard(key)
        else:
            self._deadlines.set(key, deadline)
        self._report_ended(topic, name, group.ended_leases)
        group.ended_leases.clear()
        if group.dirty:
            self._on_change("group", key)
            for seq in group.dirty:
                self._on_change("job", (topic, name, seq))
            group.dirty.clear()
        if group.requeued:
            self._events.ready[key] = None
        if group.dead_letter_pending and not group.closing:
            self._dead_letter_pending[key] = None

    def _report_ended(self, topic: str, name: str, leases: Iterable[tuple[int, int]]) -> None:
        of = self._log.epochs.of
        self._events.ended += [(topic, name, LeaseId(Id(of(seq), seq), attempt)) for seq, attempt in leases]

    # Death

    def dead_letter_pending(self, now: float) -> Iterator[DeadLetterPending]:
        """What is out of attempts, some of it: each is to be bury()ed, or postpone()d, before the next is asked for."""
        for topic, name in [*islice(self._dead_letter_pending, 1)]:
            group = self._existing(topic, name)
            for seq in [*islice(group.dead_letter_pending, DEAD_LETTER_BATCH)]:
                if message := self._message(topic, seq, now):
                    yield DeadLetterPending(topic, name, seq, self._dead_letter_draft(name, group, message))
                else:
                    group.forget(seq)
            if not group.dead_letter_pending:
                self._dead_letter_pending.pop((topic, name), None)

    def _dead_letter_draft(self, name: str, group: Group, message: Message) -> Draft:
        job = group.jobs[message.seq]
        first = job.last_failure if job.first_failure is None else job.first_failure
        ahead = self._log.ahead
        death = Death(
            message.id, message.topic, name, job.tries, job.reason, first + ahead, job.last_failure + ahead
        )  # fmt: skip
        envelope = Envelope(group.settings.dead_letter, message.content_type, message.event, death=death)
        return Draft(envelope, [message.data])

    def dead_letter(self, dying: DeadLetterPending) -> None:
        """It is in the dead-letter topic now."""
        group = self._existing(dying.topic, dying.group)
        for seq in (dying.seq, group.dead_letter(dying.seq)):
            if seq is not None:
                self._on_change("buried", (dying.topic, dying.group, seq))
        self._refresh(dying.topic, dying.group, group)
        self._log.settled(self._log.existing(dying.topic), dying.seq)

    def postpone(self, dying: DeadLetterPending, until: float) -> None:
        """The dead-letter topic has no room: nobody gets it, and it is tried again then."""
        group = self._existing(dying.topic, dying.group)
        group.postpone(dying.seq, until)
        self._refresh(dying.topic, dying.group, group)
