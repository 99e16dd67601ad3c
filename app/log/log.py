"""The log: every accepted message in one order, kept per topic as long as its retention says.

Plain data and functions of the time they are given: no I/O, no tasks, no clock. An engine holds one. What is due (an
age, a ttl, an idle topic) is done when somebody asks next, never by a task of its own.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from ..errors import LogFull, NotFound, TopicLimit
from ..messages.message import ONE, Draft, Message
from ..messages.topic import TopicFilter
from . import capacity
from .changes import OnChange, Records, ignore_change
from .deadlines import Deadlines
from .epochs import Epochs
from .groups.group import EMPTY_SIZE, GROUP_COST, JOB_COST, Group, Size
from .groups.unacked import Counting, UnackedIndex
from .run import EXPIRY_COST, HELD_COST, ONE_COST, Run, make_runs
from .slices import Slices, sliced
from .store import MessageStore
from .topic_log import TOPIC_COST, Limits, TopicLog, TopicRecord, TopicState, weigh
from .trims import TrimMark, TrimMarks

TRIM_BATCH: Final = (
    200  # messages that retention takes at once: some milliseconds with a file, then others get their turn
)
CHECK_INTERVAL: Final = (
    1.0  # seconds, while the wall clock is behind a message, between two looks whether that is still kept
)
SWEEP_BATCH: Final = 250  # expired messages that one call gives up
CHECK_BATCH: Final = 50  # topics of which one call finds out what is too old, or that they are idle
STATE_EFFORT: Final = 16  # as many things as a topic's state counts: its ends may have to be found in a file


class Moment(msgspec.Struct, frozen=True):
    """One moment: on the log's own clock, by the wall clock, and in which boot of the machine it was how many seconds
    after that."""

    now: float
    wall: float
    boot: str
    uptime: float


class LogRecord(msgspec.Struct, frozen=True):
    """What must be known of a log besides its messages and topics. `mark`: the moment of the note."""

    head: int = 0
    cost: int = 0
    forgotten_floor: TrimMark = msgspec.field(default_factory=TrimMark)
    mark: Moment | None = None


class Log:
    def __init__(
        self, limits: Limits, epochs: Epochs, store: MessageStore, on_change: OnChange = ignore_change
    ) -> None:
        """`on_change` is called for each change that an engine may have to write down."""
        self.limits = limits
        self.epochs = epochs
        self.head = 0  # seq of the newest message
        self.cost = 0  # bytes of memory: all kept messages, what groups may need for them, topics, what is delayed
        self._delayed = 0  # bytes of that: what is delayed
        self._unrecorded_cost = 0  # bytes of memory that are not in `cost`: of what is for one, and of groups
        self._dead = 0  # messages that are dead
        self._groups = EMPTY_SIZE  # all groups together
        self.topics: dict[str, TopicLog] = {}
        self.groups_to_check: dict[
            str, None
        ] = {}  # topics whose groups lost a message to its ttl: somebody has to look
        self.over_retention: dict[
            str, None
        ] = {}  # topics that may keep more than their retention, until the next sweep
        self.counters: dict[str, list[Counting]] = {}  # by topic: for groups that are about to be there
        self.ahead = 0.0  # seconds that the wall clock is ahead of the log's own
        self.moment: Moment | None = None  # the newest moment that was told
        self._newest_time = 0.0  # of a message
        self._next_check = 0.0  # when to look again whether that message is still kept
        self.frozen = False  # nothing may change, not even what is due
        self.store = store
        self.messages = store.messages
        self._on_change = on_change
        self._expiries: Deadlines[int] = Deadlines()  # of messages with a ttl
        self._check_times: Deadlines[str] = Deadlines()  # of topics: their oldest message's age, or their idleness
        self.waiting: set[str] = set()  # topics with something in `waiting`
        self.in_transit: dict[int, str] = {}  # topics, by seq, of what is for one and on its way to somebody
        self._in_transit_of: Counter[str] = Counter()  # how many of each topic
        self.trim_marks = TrimMarks(on_change)

    def restore(
        self, records: Records, waiting: Iterable[tuple[str, int]], expiries: Iterable[tuple[int, float]],
        dead: Iterable[tuple[str, int, int]],
    ) -> None:  # fmt: skip
        """Take up where another log left off. `waiting`: topics and seqs of what was kept for one subscriber;
        `expiries`: seqs of what has a ttl, and its end; `dead`: topics, seqs and bytes of what is dead."""
        head: LogRecord = records["log"].get((), LogRecord())
        self.head, self.cost, self.moment = head.head, head.cost, head.mark
        self._newest_time = self._kept_time()
        for (name,), record in records["topic"].items():
            self.topics[str(name)] = TopicLog.restore(
                str(name), record, self.limits.retention, self.store.of_topic(str(name))
            )
        for topic, seq in waiting:
            self.topics[topic].for_one[seq] = True
            self.waiting.add(topic)
            self._unrecorded_cost += ONE_COST
        for seq, expires in expiries:
            self._expiries.set(seq, expires)
        for topic, seq, nbytes in dead:
            holds = self.topics[topic].unacked = self.topics[topic].unacked or UnackedIndex({})
            holds.add_dead(seq, nbytes)
            self._dead += 1
        self.trim_marks.restore(
            records["forgotten"], head.forgotten_floor, [topic.trim_mark for topic in self.topics.values()]
        )

    def record(self) -> LogRecord:
        return LogRecord(self.head, self.cost, self.trim_marks.floor, self.moment)

    def topic_record(self, name: str) -> TopicRecord | None:
        topic = self.topics.get(name)
        return topic.record() if topic else None

    # Time

    def set_time(self, ahead: float, mark: Moment | None = None) -> None:
        """How far the wall clock is ahead now. `mark`: to be noted with the next change."""
        if ahead != self.ahead:
            self.ahead = ahead
            self._on_change("log", ())
        self.moment = mark

    def _time(self, now: float) -> float:
        """What the wall clock says; but never less than the time of a message that is still kept."""
        time = now + self.ahead if self.ahead else now
        if time < self._newest_time:
            if now >= self._next_check:
                self._next_check = now + CHECK_INTERVAL
                self._newest_time = self._kept_time()
            time = max(time, self._newest_time)
        self._newest_time = time
        return time

    def _kept_time(self) -> float:
        newest = next(self.messages.newest(), None)
        return 0.0 if newest is None else newest.time

    # Writing

    def reserve(self, drafts: Sequence[Draft]) -> None:
        """Hold the room that these drafts will take, until release()."""
        nbytes = weigh(drafts).memory
        self.cost += nbytes
        self._delayed += nbytes

    def release(self, drafts: Sequence[Draft]) -> None:
        nbytes = weigh(drafts).memory
        self.cost -= nbytes
        self._delayed -= nbytes

    def find_delayed(self, publishes: Iterable[Sequence[Draft]]) -> None:
        """After restore(): these are delayed, and in `cost` already."""
        self._delayed = sum(weigh(drafts).memory for drafts in publishes)

    def count_delayed(self, name: str, count: int, now: float) -> None:
        """So many more messages come to the topic later, which is there from now on. Fewer, when they have come."""
        topic = self._topic(name, now)
        topic.delayed += count
        self._schedule_check(topic)

    def accept(self, drafts: Sequence[Draft], now: float) -> list[Run]:
        """Give these drafts, all for one topic, their places, after check_room(). trim() when they were handed out."""
        topic = self._topic(drafts[0].envelope.topic, now)
        topic.trim_mark.first = topic.trim_mark.first or self.head + 1
        topic.last_used = now
        self._on_change("topic", (topic.name,))
        accepted: list[Run] = []
        time = self._time(now)
        for draft in map(topic.share, drafts):
            come = make_runs(draft, self.epochs.current, self.head + 1, topic.next_index, now, time=time)
            self.head, topic.next_index = come[-1].seq, come[-1].index + 1
            if draft.envelope.retain:
                self._keep(topic, come)
            accepted += come
        return accepted

    def trim(self, name: str, came: int) -> None:
        """Hold the topic, in which so many messages came, to its retention: more cannot come than go. Of age, sweep()
        takes care."""
        if topic := self.topics.get(name):
            self._trim(topic, TRIM_BATCH + came)

    def remove(self, message: Message) -> Run | None:
        """Give up a message that has expired: no loss. None when it was gone already."""
        topic = self.topics.get(message.topic)
        if topic is None or (run := topic.messages.remove(message.seq)) is None:
            return None
        self._unheld(topic, message)
        self._removed(topic, (run,))
        return run

    def _unheld(self, topic: TopicLog, message: Message) -> None:
        """The message is gone, whoever holds it."""
        if topic.unacked is not None and topic.unacked.is_held(message):
            topic.unacked.forget(message.seq)
            self.groups_to_check[topic.name] = None
            for name in topic.unacked.groups:
                self._on_change("group", (topic.name, name))
                self._on_change("job", (topic.name, name, message.seq))
            self.unhold(topic, message.seq, len(message.data))

    def _removed(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        """The topic's ring has given these up."""
        if self.counters:
            self._update_counts(topic, runs)
        self._on_change("topic", (topic.name,))
        for run in runs:
            topic.bytes -= run.nbytes
            self.cost -= run.nbytes + run.live * run.overhead
            if run.expires is not None:
                self._expiries.discard(run.seq)
            if run.envelope.delivery is ONE:
                del topic.for_one[run.seq]
                self._unrecorded_cost -= ONE_COST
                self._arrive(topic, run.seq)
                self._update_waiting(topic)
            if run.envelope.death is not None:
                self._dead -= 1
                self._forget_dead(topic, run.seq)
        if not topic.messages.live:
            self._schedule_check(topic)

    @staticmethod
    def _forget_dead(topic: TopicLog, seq: int) -> None:
        assert topic.unacked is not None
        del topic.unacked.dead[seq]
        if not (topic.unacked.groups or topic.unacked.dead):
            topic.unacked = None

    def _update_counts(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        for counting in self.counters.get(topic.name, ()):
            for run in runs:
                counting.removed(run)

    def make(self, name: str, now: float) -> TopicLog:
        """The topic; there is one of that name from now on. Raises TopicLimit."""
        self._check_topics(name)
        return self._topic(name, now)

    def configure(self, name: str, changes: Mapping[str, float], now: float) -> None:
        """Change fields of the topic's Retention; the topic is made if there is none. Raises TopicLimit."""
        topic = self.make(name, now)
        topic.retention = msgspec.structs.replace(topic.retention, **changes)
        topic.pinned = True
        self._on_change("topic", (name,))
        self._trim_by_age(topic, now)
        self._trim(topic)
        self._schedule_check(topic)

    def empty(self, name: str) -> TopicLog:
        """Forget a topic's settings. Its messages are to be taken, the dead too. Raises NotFound."""
        topic = self.existing(name)
        topic.retention, topic.pinned = self.limits.retention, False
        self._on_change("topic", (name,))
        return topic

    def take_up_to(self, topic: TopicLog, end: int) -> bool:
        """Take the topic's messages up to that place, at most CUT: whether none is left. Then the topic is forgotten,
        unless there is something new. Whoever resumes there is told of the loss."""
        if self.topics.get(topic.name) is not topic:  # somebody else has dropped it meanwhile
            return True
        messages, gone, left = topic.messages, list[Run](), TRIM_BATCH
        while left and messages.live and (first := messages.first).first <= end:
            before = messages.live
            gone += messages.shift(min(first.live - first.count_after(end), left))
            left -= before - messages.live
        for run in gone if topic.unacked else ():  # a group was made meanwhile
            for message in run.messages:
                self._unheld(topic, message)
        if gone:
            self._lost(topic, gone)
        if left and not topic.stays:
            self._forget(topic)
        return left > 0

    def schedule_checks(self) -> None:
        """After restore(), and when the groups have been restored too: know again what is due when."""
        for topic in self.topics.values():
            self._schedule_check(topic)

    def find_over_retention(self) -> None:
        """After a start: topics may keep more than their retention, since the default was another."""
        for topic in self.topics.values():
            if topic.messages.live > topic.retention.max_messages or topic.bytes > topic.retention.max_bytes:
                self.over_retention[topic.name] = None

    def sweep(self, now: float) -> None:
        """Do what is due: expire messages, trim by age, forget idle topics. Costs what it frees, and at most some
        milliseconds: readers pass over what has expired anyway, and what else is left is due when somebody asks next.
        """
        if not self.frozen and (
            self.over_retention or self._expiries.may_be_due(now) or self._check_times.may_be_due(now)
        ):
            for seq in islice(self._expiries.due(now), SWEEP_BATCH):
                if message := self.messages.get(seq):
                    self.remove(message)
            if self.over_retention:  # one at a time: there may be many after a start
                name = next(iter(self.over_retention))
                del self.over_retention[name]
                self._check(name, now)
            left = TRIM_BATCH
            for name in islice(self._check_times.due(now), CHECK_BATCH):
                left -= self._check(name, now)
                if left <= 0:
                    break

    def _keep(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        first, holds = not topic.messages.live, topic.unacked
        topic.messages.extend(runs)
        for run in runs:
            topic.bytes += run.nbytes
            self.cost += run.nbytes + run.live * run.overhead
            if run.expires is not None:
                self._expiries.set(run.seq, run.expires)
            if run.envelope.delivery is ONE:
                self._unrecorded_cost += ONE_COST
            elif holds is not None or run.envelope.death is not None:
                holds = topic.unacked = holds or UnackedIndex({})
                holds.add(run)
                self._dead += run.envelope.death is not None
                self.cost += JOB_COST * len(holds.groups) * run.live
        if runs[0].envelope.delivery is ONE:  # they are of one draft
            self._send(topic, [run.seq for run in runs])
        if first or (holds is not None and not holds.groups):
            self._schedule_check(topic)

    # What is for one subscriber waits for it, or is on its way: kept until somebody has it, but nobody else gets it

    def take(self, message: Message) -> bool:
        """It waits no longer: it is being given to somebody. False when it did not wait any more."""
        topic = self.topics.get(message.topic)
        if topic is None or not topic.for_one.get(message.seq):
            return False
        self._send(topic, (message.seq,))
        return True

    def taken(self, seqs: Iterable[int]) -> list[str]:
        """Somebody has what was on its way: no loss. Answers of which topics it was."""
        topics = self._by_topic(seqs)
        for topic, gone in topics.items():
            self._removed(topic, [run for seq in gone if (run := topic.messages.remove(seq))])
        return [topic.name for topic in topics]

    def give_back(self, seqs: Iterable[int]) -> list[str]:
        """Nobody has what was on its way: it waits for somebody else. Answers in which topics."""
        topics = self._by_topic(seqs)
        for topic, back in topics.items():
            for seq in back:
                self._arrive(topic, seq)
                topic.for_one[seq] = True
            self.waiting.add(topic.name)
            self._schedule_check(topic)
        return [topic.name for topic in topics]

    def resume(self, handed: Mapping[int, str]) -> None:
        """After restore(), by which everything waits: these are on their way still."""
        for seq, name in handed.items():
            self._send(self.topics[name], (seq,))

    def _by_topic(self, seqs: Iterable[int]) -> dict[TopicLog, list[int]]:
        """Those that are still there, and on their way."""
        topics: dict[TopicLog, list[int]] = {}
        for seq in seqs:
            if name := self.in_transit.get(seq):
                topics.setdefault(self.topics[name], []).append(seq)
        return topics

    def _send(self, topic: TopicLog, seqs: Collection[int]) -> None:
        """To somebody."""
        topic.for_one.update(dict.fromkeys(seqs, False))
        self.in_transit.update(dict.fromkeys(seqs, topic.name))
        self._in_transit_of[topic.name] += len(seqs)
        self._update_waiting(topic)

    def _arrive(self, topic: TopicLog, seq: int) -> None:
        """It is not on its way any more, if it was."""
        if self.in_transit.pop(seq, None):
            self._in_transit_of[topic.name] -= 1
            if not self._in_transit_of[topic.name]:
                del self._in_transit_of[topic.name]

    def _update_waiting(self, topic: TopicLog) -> None:
        if len(topic.for_one) == self._in_transit_of.get(topic.name, 0):
            self.waiting.discard(topic.name)

    # What groups have not done stays, and so do the dead that nobody has taken away

    def add_group(self, topic: TopicLog, name: str, group: Group, counting: Counting) -> None:
        """`counting`: up to now. Raises LogFull."""
        holds = topic.unacked or UnackedIndex({})
        count = holds.count + counting.free
        cost = GROUP_COST + (count * (len(holds.groups) + 1) - holds.count * len(holds.groups)) * JOB_COST
        self.check_memory(GROUP_COST)
        if self.total + cost > self.limits.total_bytes:
            raise LogFull(
                f"a group on {topic.name!r} would take {cost} bytes, more than are left: delete a topic or a group, or "
                f"raise {self.limits.total_setting}"
            )
        self.cost += cost
        self.count_group(group, group.size)
        holds.count, holds.bytes = count, holds.bytes + counting.free_bytes
        holds.groups[name] = group
        group.passed = holds.accepted - counting.count
        topic.unacked = holds
        self._on_change("topic", (topic.name,))
        self._schedule_check(topic)

    def remove_group(self, topic: TopicLog, name: str) -> None:
        """It holds nothing any more that another group does not hold, or there is no other."""
        assert topic.unacked is not None
        self.cost -= GROUP_COST + JOB_COST * topic.unacked.count
        self.count_group(topic.unacked.groups.pop(name), EMPTY_SIZE)
        if not topic.unacked.groups:
            topic.unacked = UnackedIndex.of_dead(topic.unacked.dead)
        self._on_change("topic", (topic.name,))
        self._schedule_check(topic)
        self._trim(topic)

    def count_group(self, group: Group, size: Size) -> None:
        """It is so large now."""
        if size != group.counted_size:
            self._groups = self._groups.changed(group.counted_size, size)
            self._unrecorded_cost += size.nbytes - group.counted_size.nbytes
            group.counted_size = size

    def unhold(self, topic: TopicLog, seq: int, nbytes: int) -> None:
        """No group needs the message of so many bytes any more: retention may take it."""
        assert topic.unacked is not None
        topic.unacked.remove(seq, nbytes)
        for counting in self.counters.get(topic.name, ()):
            counting.freed(seq, nbytes)
        self._on_change("topic", (topic.name,))
        self.cost -= JOB_COST * len(topic.unacked.groups)

    def settled(self, topic: TopicLog, seq: int) -> None:
        """A group is done with the message. If it is dead, it was taken away."""
        run = topic.messages.find(seq)
        if run is not None and topic.unacked is not None and not topic.unacked.is_needed(seq):
            self.unhold(topic, seq, run.size(seq))
            if seq in topic.unacked.dead:
                self.remove(next(run.messages))
            self._trim(topic)
            self._schedule_check(topic)

    def check_room(self, drafts: Sequence[Draft], now: float) -> None:
        """Raises TopicLimit, LogFull or MessageTooLarge when these drafts cannot be accepted."""
        self.sweep(now)
        name = drafts[0].envelope.topic
        self._check_topics(name)
        capacity.check(drafts, self.topics.get(name), self.limits, self.cost + self._unrecorded_cost, self.memory_left)

    def check_memory(self, nbytes: int) -> None:
        """Raises LogFull when so much memory is not left."""
        if nbytes > self.memory_left():
            raise LogFull(capacity.memory_full(self.limits, self.memory_left()))

    @property
    def total(self) -> int:
        """Bytes of all that counts against `total_bytes`."""
        return self.cost + self._unrecorded_cost

    def memory_left(self) -> int:
        """Bytes that are left of `memory_bytes`."""
        groups = GROUP_COST * self._groups.groups + JOB_COST * self._groups.jobs
        messages = EXPIRY_COST * len(self._expiries) + HELD_COST * self._dead
        return self.limits.memory_bytes - self._delayed - self._unrecorded_cost - groups - messages

    def existing(self, name: str) -> TopicLog:
        """Raises NotFound."""
        topic = self.topics.get(name)
        if topic is None:
            raise NotFound(f"there is no topic {name!r}")
        return topic

    def _check_topics(self, name: str) -> None:
        if name not in self.topics and len(self.topics) >= self.limits.topics:
            raise TopicLimit(f"there are {len(self.topics)} topics, as many as this server keeps; {name!r} is one more")

    def _trim(self, topic: TopicLog, left: int = TRIM_BATCH) -> None:
        """Give up what is too much, so many messages at most; the rest, next time. What is on its way takes nobody's
        place: soon it is gone."""
        messages, nbytes = topic.messages, topic.retention.max_bytes
        most = topic.retention.max_messages + self._in_transit_of.get(topic.name, 0)
        if topic.unacked is not None:
            if messages.live > most or topic.bytes > nbytes:
                self._cut(topic, left, lambda _message: messages.live > most or topic.bytes > nbytes)
            return
        if messages.live > most:
            self._lost(topic, messages.shift(min(messages.live - most, left)))
        if messages.live > most:
            self.over_retention[topic.name] = None
        elif topic.bytes > nbytes:
            self._shift(topic, left, lambda first: first.fewest_with(topic.bytes - nbytes))

    def _trim_by_age(self, topic: TopicLog, now: float) -> None:
        """Give up what is too old."""
        horizon = now - topic.retention.max_age
        if topic.unacked is None:
            self._shift(topic, TRIM_BATCH, lambda first: first.live if first.at <= horizon else 0)
        else:
            self._cut(topic, TRIM_BATCH, lambda message: message.at <= horizon)

    def _shift(self, topic: TopicLog, left: int, too_many: Callable[[Run], int]) -> None:
        """Nothing is in the way of the oldest messages: give up those of the first run that are too many, and go on
        with the next. What is more than so many, next time."""
        messages = topic.messages
        while messages.live and (count := too_many(messages.first)):
            if not left:
                self.over_retention[topic.name] = None
                break
            before = messages.live
            self._lost(topic, messages.shift(min(count, left)))
            left -= before - messages.live

    def _cut(self, topic: TopicLog, left: int, too_much: Callable[[Message], bool]) -> None:
        """Groups need some of them: give up the oldest messages that none needs, while they are too much. What is more
        than so many, next time."""
        for taken, message in enumerate(topic.removable()):
            if not too_much(message):
                break
            if taken == left:
                self.over_retention[topic.name] = None
                break
            if run := self.remove(message):
                self.trim_marks.add(topic.trim_mark, (run,))

    def _lost(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        """Retention has taken these out of the topic's ring."""
        self._removed(topic, runs)
        self.trim_marks.add(topic.trim_mark, runs)

    def _topic(self, name: str, now: float) -> TopicLog:
        topic = self.topics.get(name)
        if topic is None:
            mark, messages = self.trim_marks.restore_mark(name), self.store.of_topic(name)
            topic = self.topics[name] = TopicLog(name, self.limits.retention, mark, messages)
            self._on_change("topic", (name,))
            topic.last_used = now
            self.cost += TOPIC_COST
            self._schedule_check(topic)
        return topic

    def _schedule_check(self, topic: TopicLog) -> None:
        if oldest := next(topic.removable(), None):
            self._check_times.set(topic.name, oldest.at + topic.retention.max_age)
        elif topic.stays:
            self._check_times.discard(topic.name)
        else:
            self._check_times.set(topic.name, topic.last_used + self.limits.topic_idle)

    def _check(self, name: str, now: float) -> int:
        """How many messages it has given up."""
        topic = self.topics.get(name)
        if topic is None:
            return 0
        before = topic.messages.live
        self._trim_by_age(topic, now)
        self._trim(topic)
        if topic.stays or topic.last_used + self.limits.topic_idle > now:
            self._schedule_check(topic)
        else:
            self._forget(topic)
        return before - topic.messages.live

    def _forget(self, topic: TopicLog) -> None:
        del self.topics[topic.name]
        self._on_change("topic", (topic.name,))
        self._check_times.discard(topic.name)
        self.cost -= TOPIC_COST
        self.trim_marks.forget(topic.name, topic.trim_mark)

    # Asking

    def state(self, name: str, now: float) -> TopicState:
        """Raises NotFound."""
        self.sweep(now)
        return self.existing(name).state()

    def states(self, topic_filter: TopicFilter | None, now: float) -> Slices[list[TopicState]]:
        """Every topic that is selected (None: every one), by name."""
        self.sweep(now)
        found: list[TopicState] = []
        for names in sliced(
            sorted(self.topics), STATE_EFFORT if topic_filter is None else STATE_EFFORT * topic_filter.effort
        ):
            selected = (
                name for name in names if name in self.topics and (topic_filter is None or topic_filter.matches(name))
            )
            found += [self.topics[name].state() for name in selected]
            yield
        return found

    def get(self, seq: int, now: float) -> Message | None:
        self.sweep(now)
        message = self.messages.get(seq)
        return None if message is None or message.expired(now) else message
