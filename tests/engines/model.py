"""What a broker must do, in the plainest way: a list of messages, and for each what became of it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from app.log.groups import choice
from app.log.groups.job import BACKOFF
from app.messages.lease import Action, Outcome
from app.messages.topic import TopicFilter

State = Literal["kept", "lost", "gone"]  # lost: retention took it, a gap; gone: handed out, expired or never kept


@dataclass
class Entry:
    seq: int
    topic: str
    body: str
    for_one: bool
    time: float
    expires: float | None
    state: State
    dead: bool = False
    origin: tuple[str, str] = ("", "")  # of a dead one: the topic and the group that gave it up
    group: str | None = None  # of a redriven one: the only group that has it
    original: int = 0  # of a dead or redriven one: the message that died first
    priority: int = 0
    key: str | None = None

    @property
    def for_all(self) -> bool:
        return not self.for_one and self.group is None


@dataclass
class ModelSubscriber:
    """`got` is what it must have been given so far: bodies, and "GAP <reason>" for a gap."""

    topic_filter: TopicFilter
    cursor: int
    told: int
    got: list[str] = field(default_factory=list)
    paused: bool = False


@dataclass
class ModelScheduled:
    """A message that is to be published later."""

    topic: str
    body: str
    for_one: bool
    ttl: float | None


@dataclass
class Work:
    """A message that a group has handed out, and that is neither acked nor dead."""

    seq: int
    attempt: int = 0
    excused: int = 0  # of these
    stage: Literal["ready", "leased", "delayed", "dying"] = "ready"
    until: float = 0.0  # the end of the lease or of the delay
    refused: bool = False  # the dead-letter topic had no room for it
    holds: bool = False  # its key

    @property
    def tries(self) -> int:
        return self.attempt - self.excused


@dataclass
class ModelGroup:
    topic: str
    name: str
    dead_letter: str
    cursor: int
    ack_timeout: float
    max_deliveries: int
    gone: bool  # some of what it was to begin with, or to go on with after a seek
    told: bool = False  # it has handed out a message since
    paused: bool = False
    works: dict[int, Work] = field(default_factory=dict)
    acked: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    skipped: set[int] = field(default_factory=set)
    attempts: int = 0  # the greatest number so far
    overtaking: int = 0  # how many were handed out in a row while one of a lower priority was ready
    replayed: tuple[int, int] = (0, 0)  # up to which message, and how many attempts it may have had
    counts: Counter[str] = field(default_factory=Counter)  # of what was acked, dead and skipped since it was made

    def __post_init__(self) -> None:
        self.begin = self.cursor

    @property
    def done(self) -> set[int]:
        return self.acked | self.dead | self.skipped

    def first_work(self, seq: int) -> Work:
        until, attempts = self.replayed
        return Work(seq, attempts, attempts) if seq <= until else Work(seq)

    def staged(self, *stages: str) -> list[Work]:
        return sorted((work for work in self.works.values() if work.stage in stages), key=lambda work: work.seq)

    def next(self) -> Work | None:
        return min(self.staged("leased", "delayed"), key=lambda work: (work.until, work.seq), default=None)

    def pass_time(self, now: float) -> None:
        while (work := self.next()) and work.until <= now:
            if work.stage == "leased":
                self.fail(work, work.until)
            else:
                self.again(work)

    def fail(self, work: Work, at: float, delay: float | None = None) -> None:
        wait = BACKOFF[min(work.tries, len(BACKOFF)) - 1] if delay is None else delay
        self.again(work)
        if wait and work.stage == "ready":
            work.stage, work.until = "delayed", at + wait

    def excuse(self, work: Work) -> None:
        """The server cut it short."""
        work.excused += 1
        self.again(work)

    def again(self, work: Work) -> None:
        work.refused = False
        if work.tries < self.max_deliveries:
            work.stage = "ready"
        else:
            work.stage = "dying"
            self.works[work.seq] = self.works.pop(work.seq)  # they are buried in this order


@dataclass
class Model:
    max_messages: int
    max_age: float
    entries: list[Entry] = field(default_factory=list)
    subscribers: dict[int, ModelSubscriber] = field(default_factory=dict)
    groups: dict[tuple[str, str], ModelGroup] = field(default_factory=dict)
    scheduled: dict[str, ModelScheduled] = field(default_factory=dict)  # by id, in the order in which they are due
    now: float = 0.0

    @property
    def head(self) -> int:
        return len(self.entries)

    def append(
        self, topic: str, body: str, for_one: bool, retain: bool, ttl: float | None, priority: int = 0,
        key: str | None = None,
    ) -> Entry:  # fmt: skip
        """It takes its place; hand_out() and trim() follow, in this order."""
        expires = None if ttl is None else self.now + ttl
        entry = Entry(
            self.head + 1, topic, body, for_one, self.now, expires, "kept" if retain else "gone", priority=priority,
            key=key,
        )  # fmt: skip
        self.entries.append(entry)
        return entry

    def hand_out(self, entry: Entry) -> set[int]:
        """The subscribers of whom exactly one must get it; empty when all of them get it, or nobody."""
        live = {n for n, r in self.subscribers.items() if not r.paused and r.topic_filter.matches(entry.topic)}
        if entry.for_one:
            entry.state = "gone" if live and entry.state == "kept" else entry.state
            return live
        for n in live:
            self.subscribers[n].got.append(entry.body)
        return set()

    def trim(self, topic: str) -> None:
        kept = [entry for entry in self.entries if entry.topic == topic and entry.state == "kept"]
        free = [entry for entry in kept if not self.held(entry)]
        for place, entry in enumerate(free):
            if place < len(kept) - self.max_messages or entry.time <= self.now - self.max_age:
                entry.state = "lost"

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for entry in self.entries:
            if entry.state == "kept" and entry.expires is not None and entry.expires <= self.now:
                entry.state = "gone"
                for group in self.of(entry.topic):
                    group.works.pop(entry.seq, None)
        for group in self.groups.values():
            self.goes_on(group)
        for topic in {entry.topic for entry in self.entries}:
            self.trim(topic)
        due = [(work.until, key) for key, group in self.groups.items() if (work := group.next())]
        late = [self.groups[key] for until, key in sorted(due) if until <= self.now]
        for group in late:
            group.pass_time(self.now)
        for group in late:
            self.give_up(group)

    # Groups

    def of(self, topic: str) -> list[ModelGroup]:
        return [group for group in self.groups.values() if group.topic == topic]

    def leads_back(self, topic: str, dead_letter: str) -> bool:
        """Whether what is dead would come back: to where it is, or was before."""
        return topic == dead_letter or any(self.leads_back(topic, group.dead_letter) for group in self.of(dead_letter))

    def held(self, entry: Entry) -> bool:
        groups = self.of(entry.topic)
        done = any(entry.seq in group.done and entry.seq <= group.cursor for group in groups)
        return entry.group is not None or (not entry.for_one and (self.wanted(entry) or (entry.dead and not done)))

    def wanted(self, entry: Entry) -> bool:
        return any(entry.seq > group.cursor or entry.seq in group.works for group in self.of(entry.topic))

    def settled(self, seq: int) -> None:
        """What is dead is taken away when no group has still to do it."""
        entry = self.entries[seq - 1]
        if entry.dead and not self.held(entry):
            entry.state = "gone"
        self.trim(entry.topic)

    def refuses(self, topic: str, count: int) -> bool:
        """Whether so many messages more cannot be kept, since groups hold too much."""
        held = [entry for entry in self.entries if entry.topic == topic and entry.state == "kept" and self.held(entry)]
        staying = count if self.of(topic) else min(count, 1)
        return bool(held or self.of(topic)) and count > 0 and len(held) + staying > self.max_messages

    def fresh(self, group: ModelGroup) -> list[Entry]:
        return [
            entry
            for entry in self.entries[group.cursor :]
            if entry.topic == group.topic and entry.state == "kept" and entry.for_all
            if entry.seq not in group.works and entry.seq not in group.done
        ]

    def listed(self, group: ModelGroup) -> dict[str, list[int]]:
        """The messages of the group by state, in the order of the log."""
        of = {
            state: [work.seq for work in group.staged(*stages)]
            for state, stages in (("ready", ["ready"]), ("leased", ["leased"]), ("delayed", ["delayed", "dying"]))
        }
        of["ready"] = sorted([*of["ready"], *(entry.seq for entry in self.fresh(group))])
        of["dead"] = self.dead_of(group)
        return of

    def dead_of(self, group: ModelGroup) -> list[int]:
        origin = group.topic, group.name
        kept = [entry for entry in self.entries if entry.state == "kept" and entry.topic == group.dead_letter]
        return [entry.seq for entry in kept if entry.origin == origin]

    def configure(self, group: ModelGroup, ack_timeout: float, max_deliveries: int, dead_letter: str) -> None:
        group.ack_timeout, group.max_deliveries, group.dead_letter = ack_timeout, max_deliveries, dead_letter
        for work in group.staged("ready"):
            group.again(work)
        self.give_up(group)
        self.retry([group])

    def retry(self, groups: Iterable[ModelGroup]) -> None:
        """An operator has changed something: the dead that found no room are tried again at once."""
        for group in groups:
            for work in group.staged("delayed"):
                work.until = self.now if work.refused else work.until
        self.pass_time(0.0)

    def claim(self, group: ModelGroup, count: int, seconds: float | None = None) -> list[Work]:
        leased: list[Work] = []
        while len(leased) < count and not group.paused and (work := self.next_work(group)):
            group.works[work.seq] = work
            work.holds = self.entries[work.seq - 1].key is not None
            self.goes_on(group)
            work.attempt += 1
            group.told = True
            group.attempts = max(group.attempts, work.attempt)
            work.stage, work.until = "leased", self.now + (seconds or group.ack_timeout)
            leased.append(work)
        self.give_up(group)
        self.goes_on(group)
        return leased

    def next_work(self, group: ModelGroup) -> Work | None:
        """The first of the highest priority; but after so many in a row, the oldest of the others."""
        levels = sorted({entry.priority for entry in self.entries}, reverse=True)
        found = (work for level in levels if (work := self.first_of(group, level)))
        first, lower = next(found, None), next(found, None)
        if first is None:
            return None
        ahead = len([seq for seq in group.done if seq > group.cursor])
        if lower is None:
            group.overtaking = 0
        elif group.overtaking < choice.MAX_OVERTAKING and ahead < max(self.max_messages // choice.AHEAD_SHARE, 1):
            group.overtaking += 1
        else:
            group.overtaking = 0
            return min((lower, *found), key=lambda work: work.seq)
        return first

    def first_of(self, group: ModelGroup, priority: int) -> Work | None:
        """The first of that priority whose key is free. Those before it have to wait, and are jobs from now on."""
        fresh = [group.first_work(entry.seq) for entry in self.fresh(group)]
        for work in (*group.staged("ready"), *fresh):
            entry = self.entries[work.seq - 1]
            if entry.priority != priority:
                continue
            if not self.is_busy(group, entry):
                return work
            group.works[work.seq] = work
            self.goes_on(group)
        return None

    def is_busy(self, group: ModelGroup, entry: Entry) -> bool:
        """Whether another message has its key."""
        others = [
            self.entries[work.seq - 1].key for work in group.works.values() if work.holds and work.seq != entry.seq
        ]
        return entry.key is not None and entry.key in others

    def goes_on(self, group: ModelGroup) -> None:
        """The cursor is behind the last message before the first that is still to be handed out."""
        fresh = self.fresh(group)
        passed = [
            entry.seq
            for entry in self.entries[group.cursor :]
            if entry.topic == group.topic and entry.for_all and (not fresh or entry.seq < fresh[0].seq)
            if entry.seq in group.works or entry.seq in group.done
        ]
        group.cursor = max([group.cursor, *passed])
        for seq in passed:
            self.settled(seq)

    def settle(
        self, group: ModelGroup, action: Action, seq: int, attempt: int | None, seconds: float | None
    ) -> Outcome:  # fmt: skip
        if action in {Action.RELEASE, Action.SKIP} and attempt is None and (copies := self.copies(group, seq)):
            return [self.settle_one(group, action, copy, None, seconds) for copy in copies][-1]
        return self.settle_one(group, action, seq, attempt, seconds)

    def copies(self, group: ModelGroup, seq: int) -> list[int]:
        """The redriven copies of a message that is over in the group."""
        entry = self.entries[seq - 1] if 0 < seq <= self.head else None
        there = entry is not None and entry.topic == group.topic and entry.state == "kept" and entry.for_all
        if seq < 1 or seq in group.works or (there and seq > group.cursor and seq not in group.done):
            return []
        return [copy for copy in sorted(group.works) if self.entries[copy - 1].original == seq]

    def settle_one(
        self, group: ModelGroup, action: Action, seq: int, attempt: int | None, seconds: float | None
    ) -> Outcome:  # fmt: skip
        entry = self.entries[seq - 1] if 0 < seq <= self.head else None
        if entry is None or entry.topic != group.topic or entry.state != "kept":
            return Outcome.UNKNOWN
        if not entry.for_all and seq not in group.works:
            return Outcome.UNKNOWN
        if seq in group.done:
            is_done = action is Action.SKIP or (seq not in group.dead and action is Action.ACK)
            return Outcome.DONE if is_done else Outcome.EXPIRED
        work = group.works.get(seq)
        if work is None:
            return self.skip_fresh(group, seq) if action is Action.SKIP else Outcome.UNKNOWN
        operates = action in {Action.RELEASE, Action.SKIP}
        if attempt not in {None, work.attempt} or (work.stage != "leased" and not (operates and attempt is None)):
            return Outcome.EXPIRED
        self.carry_out(group, action, work, seconds)
        self.give_up(group)
        return Outcome.DONE

    def skip_fresh(self, group: ModelGroup, seq: int) -> Outcome:
        if seq <= group.cursor:
            return Outcome.UNKNOWN
        self.finish(group, seq, "skipped")
        return Outcome.DONE

    def carry_out(self, group: ModelGroup, action: Action, work: Work, seconds: float | None) -> None:
        if action in {Action.ACK, Action.SKIP}:
            self.finish(group, work.seq, "acked" if action is Action.ACK else "skipped")
        elif action is Action.EXTEND:
            work.until = self.now + (seconds or group.ack_timeout)
        elif action in {Action.NACK, Action.RETURN}:
            group.fail(work, self.now, seconds if action is Action.NACK else None)
        elif work.stage == "leased":
            group.excuse(work)
        elif work.stage == "delayed":
            group.again(work)

    def finish(self, group: ModelGroup, seq: int, how: Literal["acked", "dead", "skipped"]) -> None:
        """The group is done with the message."""
        group.counts[how] += 1
        if self.forget(group, seq):
            return
        getattr(group, how).add(seq)
        self.goes_on(group)
        self.settled(seq)

    def forget(self, group: ModelGroup, seq: int) -> bool:
        """It is no job any more; whether it was for this group alone, so that it is gone."""
        group.works.pop(seq, None)
        entry = self.entries[seq - 1]
        if entry.group is not None:
            entry.state = "gone"
            self.trim(entry.topic)
        return entry.group is not None

    def redrive(self, group: ModelGroup, seqs: list[int], rate: float | None) -> None:
        for number, seq in enumerate(seqs):
            dead = self.entries[seq - 1]
            dead.state = "gone"
            for other in self.of(dead.topic):
                other.works.pop(seq, None)
            entry = self.append(group.topic, dead.body, False, True, None, dead.priority, dead.key)
            entry.group, entry.original = group.name, dead.original
            due = self.now + (number / rate if rate else 0.0)
            group.works[entry.seq] = Work(entry.seq, stage="delayed" if due > self.now else "ready", until=due)
        for other in self.of(group.dead_letter):
            self.goes_on(other)
        self.trim(group.dead_letter)
        self.trim(group.topic)

    def seek(self, group: ModelGroup, to: int) -> None:
        """All up to `to` is done, and all after it is not, but for what is leased or delayed."""
        for seq in [seq for seq in group.works if seq <= to]:
            self.forget(group, seq)
        if to < group.cursor:
            group.replayed = max(group.replayed[0], group.cursor), group.attempts
            for done in (group.acked, group.dead, group.skipped):
                done -= {seq for seq in done if seq > to}
            group.begin = min(group.begin, to)
        group.gone, group.told = self.lost(TopicFilter([group.topic])) > to, False
        group.cursor = to
        for entry in self.entries[group.begin : to]:
            if entry.topic == group.topic and entry.for_all and entry.state == "kept":
                if entry.seq not in group.done:
                    group.acked.add(entry.seq)
                self.settled(entry.seq)
        self.goes_on(group)

    def give_up(self, group: ModelGroup) -> None:
        for work in [work for work in group.works.values() if work.stage == "dying"]:
            if self.refuses(group.dead_letter, 1):
                work.stage, work.until, work.refused = "delayed", self.now + 10, True
                continue
            one = self.entries[work.seq - 1]
            dead = self.append(group.dead_letter, one.body, False, True, None, one.priority, one.key)
            dead.dead, dead.origin, dead.original = True, (group.topic, group.name), one.original or one.seq
            self.hand_out(dead)
            self.trim(group.dead_letter)
            self.finish(group, work.seq, "dead")

    def drop_group(self, group: ModelGroup) -> None:
        del self.groups[group.topic, group.name]
        for entry in self.entries:
            alone = entry.group == group.name or (entry.dead and not self.held(entry))
            if entry.topic == group.topic and entry.state == "kept" and alone:
                entry.state = "gone"
        self.trim(group.topic)

    def drop(self, topic: str) -> None:
        self.scheduled = {id: one for id, one in self.scheduled.items() if one.topic != topic}
        for group in self.of(topic):
            del self.groups[topic, group.name]
        for entry in self.entries:
            if entry.topic == topic and entry.state == "kept":
                entry.state = "gone" if entry.group else "lost"

    def purge(self, topic: str, end: int) -> int:
        """How many messages went."""
        gone = [entry for entry in self.entries[:end] if entry.topic == topic and entry.state == "kept"]
        for entry in gone:
            entry.state = "lost"
            for group in self.of(topic):
                group.works.pop(entry.seq, None)
        for group in self.of(topic):
            self.goes_on(group)
        self.retry_in(topic)
        return len(gone)

    def retry_in(self, topic: str) -> None:
        self.retry(group for group in self.groups.values() if group.dead_letter == topic)

    def lost(self, topic_filter: TopicFilter) -> int:
        return max((e.seq for e in self.entries if e.state == "lost" and topic_filter.matches(e.topic)), default=0)

    def newest(self, topic_filter: TopicFilter, count: int) -> int:
        """The place before the newest `count` messages that are for all."""
        kept = [e.seq for e in self.entries if e.state == "kept" and e.for_all and topic_filter.matches(e.topic)]
        return kept[-count:][0] - 1 if kept[-count:] and count else self.head

    def read_on(self, subscriber: ModelSubscriber, gap: str | None = None) -> None:
        """Everything a subscriber finds from its cursor to the head; it is live then."""
        kept = [
            e
            for e in self.entries
            if e.state == "kept" and e.group is None and subscriber.topic_filter.matches(e.topic)
        ]
        behind = [entry for entry in kept if entry.for_one and entry.seq <= subscriber.cursor]
        ahead = [entry for entry in kept if entry.seq > subscriber.cursor]
        lost = self.lost(subscriber.topic_filter)
        if gap is None and lost > max(subscriber.cursor, subscriber.told):
            gap = "trimmed"
        if gap is not None:
            subscriber.got.append(f"GAP {gap}")
        subscriber.got += [entry.body for entry in (*behind, *ahead)]
        for entry in (*behind, *ahead):
            entry.state = "gone" if entry.for_one else entry.state
        subscriber.cursor, subscriber.told = self.head, 0

    def topics(self) -> dict[str, list[str]]:
        """What each topic keeps, oldest first."""
        kept = sorted((e for e in self.entries if e.state == "kept"), key=lambda e: (e.topic, e.seq))
        return {topic: [e.body for e in group] for topic, group in groupby(kept, key=lambda e: e.topic)}
