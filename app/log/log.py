"""The log: every accepted message in one order, by topic, and the memory that it takes.

Plain data and pure functions of the time they are given: no I/O, no tasks, no clock.
"""

from collections.abc import Iterable, Sequence

import msgspec

from ..errors import LogFull, NotFound, TopicLimit, TopicPaused
from ..messages.message import ONE, Death, Draft, Message
from . import capacity
from .changes import OnChange, Records, ignore_change
from .deadlines import Deadlines
from .epochs import Epochs
from .groups.dead_index import Origin
from .groups.group import Group
from .groups.job import JOB_COST
from .groups.size import EMPTY_SIZE, GROUP_COST
from .groups.unacked import Counting, UnackedIndex
from .memory import Memory
from .message_clock import MessageClock, Moment
from .ordered_messages import OrderedMessages
from .run import ONE_COST, Run, make_runs
from .single_delivery import SingleDelivery
from .store import MessageStore
from .topic_log import TOPIC_COST, Limits, TopicLog, TopicRecord
from .trims import TrimMark, TrimMarks


class LogRecord(msgspec.Struct, frozen=True):
    """The stored state of the log, without its messages and topics. `mark`: the moment of the record. `scheduled`: the
    number of the newest delayed publish."""

    head: int = 0
    cost: int = 0
    forgotten_floor: TrimMark = msgspec.field(default_factory=TrimMark)
    mark: Moment | None = None
    scheduled: int = 0


class Log:
    def __init__(
        self, limits: Limits, epochs: Epochs, store: MessageStore, on_change: OnChange = ignore_change
    ) -> None:
        """`on_change` is called for each change that an engine may have to store."""
        self.limits = limits
        self.epochs = epochs
        self.head = 0  # seq of the newest message
        self.scheduled = 0  # the number of the newest delayed publish: no later one has it again
        self.topics: dict[str, TopicLog] = {}
        self.groups_to_check: dict[str, None] = {}  # topics with groups that lost an expired message
        self.counters: dict[str, list[Counting]] = {}  # by topic: for groups that are being created
        self.store = store
        self.messages = store.messages
        self.clock = MessageClock(store.messages, on_change)
        self._on_change = on_change
        self.expiries: Deadlines[int] = Deadlines()  # of messages with a ttl, by seq
        self.check_times: Deadlines[str] = Deadlines()  # by topic: when it has to be trimmed or dropped
        self.single_delivery = SingleDelivery(self.topics)
        self.ordered = OrderedMessages()
        self.memory = Memory(limits, self.expiries, self.ordered)
        self.trim_marks = TrimMarks(on_change)

    def restore(
        self, records: Records, unclaimed: Iterable[tuple[str, int]], expiries: Iterable[tuple[int, float]],
        dead: Iterable[tuple[str, int, int, Origin]], ordered: Iterable[tuple[str, int, int, bool]] = (),
    ) -> None:  # fmt: skip
        """Restore a stored log. `unclaimed`: topic and seq of each message for one subscriber; `expiries`: seq and end
        of each message with a ttl; `dead`: topic, seq, bytes and origin of each dead message; `ordered`: the
        Run.place_in_order of each message with an ordering."""
        head: LogRecord = records["log"].get((), LogRecord())
        self.head, self.memory.cost, self.scheduled = head.head, head.cost, head.scheduled
        self.clock.restore(head.mark)
        for (name,), record in records["topic"].items():
            self.topics[str(name)] = TopicLog.restore(
                str(name), record, self.limits.retention, self.store.of_topic(str(name))
            )
        for topic, seq in unclaimed:
            self.single_delivery.restore(topic, seq)
            self.memory.unrecorded_cost += ONE_COST
        for seq, expires in expiries:
            self.expiries.set(seq, expires)
        for topic, seq, nbytes, origin in dead:
            unacked = self.topics[topic].unacked = self.topics[topic].unacked or UnackedIndex({})
            unacked.add_dead(seq, nbytes, origin)
            self.memory.dead += 1
        for place in ordered:
            self.ordered.add(*place)
        self.trim_marks.restore(
            records["forgotten"], head.forgotten_floor, [topic.trim_mark for topic in self.topics.values()]
        )

    def record(self) -> LogRecord:
        return LogRecord(self.head, self.memory.cost, self.trim_marks.floor, self.clock.moment, self.scheduled)

    def topic_record(self, name: str) -> TopicRecord | None:
        topic = self.topics.get(name)
        return topic.record() if topic else None

    def begin_epoch(self, epoch: str) -> None:
        """Later messages have ids of this epoch."""
        self.epochs = self.epochs.begin(epoch, self.head)

    def set_limits(self, limits: Limits) -> None:
        self.limits = self.memory.limits = limits

    # Writing

    def count_delayed(self, name: str, count: int, now: float) -> None:
        """Change the number of a topic's delayed messages by `count`. A missing topic is created."""
        topic = self._topic(name, now)
        topic.delayed += count
        self.schedule_check(topic)

    def accept(self, drafts: Sequence[Draft], now: float) -> list[Run]:
        """Assign positions to drafts, all for one topic, and retain them. check_room() must have been called before,
        and the caller must have the topic trimmed afterwards."""
        topic = self._topic(drafts[0].envelope.topic, now)
        topic.trim_mark.first = topic.trim_mark.first or self.head + 1
        topic.last_used = now
        if now >= topic.published.end:
            topic.published.turn(now, topic.next_index)
        self._on_change("topic", (topic.name,))
        accepted: list[Run] = []
        time = self.clock.time(now)
        for draft in map(topic.share, drafts):
            runs = make_runs(draft, self.epochs.current, self.head + 1, topic.next_index, now, time=time)
            self.head, topic.next_index = runs[-1].seq, runs[-1].index + 1
            if draft.envelope.retain:
                self._keep(topic, runs)
            accepted += runs
        return accepted

    def remove(self, message: Message) -> Run | None:
        """Remove a message, which leaves no trim mark. None if it was removed before."""
        topic = self.topics.get(message.topic)
        if topic is None or (run := topic.messages.remove(message.seq)) is None:
            return None
        self.forget_held(topic, message)
        self._removed(topic, (run,))
        return run

    def forget_held(self, topic: TopicLog, message: Message) -> None:
        """A message is gone: remove it from the groups that hold it."""
        if topic.unacked is not None and topic.unacked.is_held(message):
            topic.unacked.forget(message)
            self.groups_to_check[topic.name] = None
            for name in topic.unacked.groups:
                self._on_change("group", (topic.name, name))
                self._on_change("job", (topic.name, name, message.seq))
            self.release_held(topic, message.seq, len(message.data))

    def _removed(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        """Account for messages that were removed from the topic."""
        if self.counters:
            self._update_counts(topic, runs)
        self._on_change("topic", (topic.name,))
        for run in runs:
            topic.bytes -= run.nbytes
            self.memory.cost -= run.nbytes + run.live * run.overhead
            if run.expires is not None:
                self.expiries.discard(run.seq)
            if run.envelope.ordering is not None:
                self.ordered.remove(*run.place_in_order)
            if run.envelope.delivery is ONE:
                self.memory.unrecorded_cost -= ONE_COST
                self.single_delivery.remove(topic, run.seq)
            if run.envelope.death is not None:
                self.memory.dead -= 1
                self._forget_dead(topic, run.seq, run.envelope.death)
        if not topic.messages.live:
            self.schedule_check(topic)

    @staticmethod
    def _forget_dead(topic: TopicLog, seq: int, death: Death) -> None:
        assert topic.unacked is not None
        topic.unacked.dead.remove(seq, (death.topic, death.group))
        if not (topic.unacked.groups or topic.unacked.dead):
            topic.unacked = None

    def _update_counts(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        for counting in self.counters.get(topic.name, ()):
            for run in runs:
                counting.removed(run)

    def make(self, name: str, now: float) -> TopicLog:
        """Return the topic; a missing one is created. Raises TopicLimit."""
        self._check_topics(name)
        return self._topic(name, now)

    def schedule_checks(self) -> None:
        """After the log and the groups were restored."""
        for topic in self.topics.values():
            self.schedule_check(topic)

    def _keep(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        first, unacked = not topic.messages.live, topic.unacked
        topic.messages.extend(runs)
        for run in runs:
            topic.bytes += run.nbytes
            self.memory.cost += run.nbytes + run.live * run.overhead
            if run.expires is not None:
                self.expiries.set(run.seq, run.expires)
            if run.envelope.ordering is not None:
                self.ordered.add(*run.place_in_order)
            if run.envelope.delivery is ONE:
                self.memory.unrecorded_cost += ONE_COST
                self.single_delivery.add(topic, run)
            elif unacked is not None or run.envelope.death is not None:
                unacked = topic.unacked = unacked or UnackedIndex({})
                unacked.add(run)
                self.memory.dead += run.envelope.death is not None
                self.memory.cost += JOB_COST * len(unacked.groups) * run.live
        if first or (unacked is not None and not unacked.groups):
            self.schedule_check(topic)

    # Messages for one subscriber

    def taken(self, seqs: Iterable[int]) -> Iterable[TopicLog]:
        """Remove messages that were in transit and have reached their subscribers. Returns their topics."""
        topics = self.single_delivery.by_topic(seqs)
        for topic, gone in topics.items():
            self._removed(topic, [run for seq in gone if (run := topic.messages.remove(seq))])
        return topics

    def give_back(self, seqs: Iterable[int]) -> Iterable[TopicLog]:
        """Messages that were in transit have reached nobody, and are unclaimed again. Returns their topics."""
        topics = self.single_delivery.by_topic(seqs)
        for topic, back in topics.items():
            self.single_delivery.give_back(topic, back)
            self.schedule_check(topic)
        return topics

    # Groups, and the messages that they hold

    def add_group(self, topic: TopicLog, name: str, group: Group, counting: Counting) -> None:
        """`counting`: of all messages of the topic. Raises LogFull."""
        unacked = topic.unacked or UnackedIndex({})
        count = unacked.count + counting.free
        cost = GROUP_COST + (count * (len(unacked.groups) + 1) - unacked.count * len(unacked.groups)) * JOB_COST
        self.memory.check(GROUP_COST)
        if self.memory.total + cost > self.limits.total_bytes:
            raise LogFull(
                f"a group on {topic.name!r} would take {cost} bytes, more than are left: delete a topic or a group, or "
                f"raise {self.limits.total_setting}"
            )
        self.memory.cost += cost
        self.memory.count_group(group, group.size)
        unacked.count, unacked.bytes = count, unacked.bytes + counting.free_bytes
        unacked.groups[name] = group
        group.passed = unacked.accepted - counting.count
        topic.unacked = unacked
        self._on_change("topic", (topic.name,))
        self.schedule_check(topic)

    def hold_again(self, topic: TopicLog, counting: Counting) -> None:
        """A group goes back. `counting`: of all messages after its new position. Raises LogFull."""
        assert topic.unacked is not None
        cost = counting.free * len(topic.unacked.groups) * JOB_COST
        if self.memory.total + cost > self.limits.total_bytes:
            raise LogFull(
                f"to hand out these messages of {topic.name!r} again would take {cost} bytes, more than are left: seek "
                f"a later position, delete a topic or a group, or raise {self.limits.total_setting}"
            )
        self.memory.cost += cost
        topic.unacked.count += counting.free
        topic.unacked.bytes += counting.free_bytes
        topic.unacked.rewinds += 1
        self._on_change("topic", (topic.name,))
        self.schedule_check(topic)

    def remove_group(self, topic: TopicLog, name: str) -> None:
        """Remove a group. Unless it is the only one, other groups must hold all that it holds."""
        assert topic.unacked is not None
        self.memory.cost -= GROUP_COST + JOB_COST * topic.unacked.count
        self.memory.count_group(topic.unacked.groups.pop(name), EMPTY_SIZE)
        if not topic.unacked.groups:
            topic.unacked = UnackedIndex.of_dead(topic.unacked.dead)
        self._on_change("topic", (topic.name,))
        self.schedule_check(topic)

    def release_held(self, topic: TopicLog, seq: int, nbytes: int) -> None:
        """No group holds the message any more. `nbytes`: of its body."""
        assert topic.unacked is not None
        topic.unacked.remove(seq, nbytes)
        for counting in self.counters.get(topic.name, ()):
            counting.freed(seq, nbytes)
        self._on_change("topic", (topic.name,))
        self.memory.cost -= JOB_COST * len(topic.unacked.groups)

    def check_room(self, drafts: Sequence[Draft]) -> None:
        """Raises TopicLimit, TopicPaused, LogFull or MessageTooLarge when these drafts cannot be accepted."""
        name = drafts[0].envelope.topic
        self._check_topics(name)
        topic = self.topics.get(name)
        if topic is not None and topic.paused:
            raise TopicPaused(f"publishing to topic {name!r} is paused; nothing was stored")
        capacity.check(drafts, topic, self.memory)

    def existing(self, name: str) -> TopicLog:
        """Raises NotFound."""
        topic = self.topics.get(name)
        if topic is None:
            raise NotFound(f"there is no topic {name!r}")
        return topic

    def _check_topics(self, name: str) -> None:
        if name not in self.topics and len(self.topics) >= self.limits.topics:
            raise TopicLimit(f"there are {len(self.topics)} topics, as many as this server keeps; {name!r} is one more")

    def trimmed(self, topic: TopicLog, runs: Sequence[Run]) -> None:
        """Account for messages that retention has removed from the topic, and extend its trim mark."""
        self._removed(topic, runs)
        self.trim_marks.add(topic.trim_mark, runs)

    def _topic(self, name: str, now: float) -> TopicLog:
        topic = self.topics.get(name)
        if topic is None:
            mark, messages = self.trim_marks.restore_mark(name), self.store.of_topic(name)
            topic = self.topics[name] = TopicLog(name, self.limits.retention, mark, messages)
            self._on_change("topic", (name,))
            topic.last_used = now
            self.memory.cost += TOPIC_COST
            self.schedule_check(topic)
        return topic

    def schedule_check(self, topic: TopicLog) -> None:
        if oldest := next(topic.removable(), None):
            self.check_times.set(topic.name, oldest.at + topic.retention.max_age)
        elif topic.unacked is not None and topic.unacked.is_scanning:
            self.check_times.set(topic.name, 0.0)  # at once: the search goes on
        elif topic.stays:
            self.check_times.discard(topic.name)
        else:
            self.check_times.set(topic.name, topic.last_used + self.limits.topic_idle)

    def drop_topic(self, topic: TopicLog) -> None:
        """Drop a topic without messages."""
        del self.topics[topic.name]
        self._on_change("topic", (topic.name,))
        self.check_times.discard(topic.name)
        self.memory.cost -= TOPIC_COST
        self.trim_marks.add_dropped(topic.name, topic.trim_mark)

    def get(self, seq: int, now: float) -> Message | None:
        """The message, unless it has expired."""
        message = self.messages.get(seq)
        return None if message is None or message.expired(now) else message
