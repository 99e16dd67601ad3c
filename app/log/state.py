"""The state machine of an engine: log, groups, idempotency keys and delayed publishes, as pure functions of time.

No I/O, no tasks, no clock. Engines differ only in when a decision takes effect: at once, or when a disk has it. Then
the engine carries out the outbox: it delivers the messages in log order, gives back those for one subscriber that had
none, and notifies the groups' observer.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from copy import copy
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import PlainmqError, Refused
from ..messages.message import Draft, Id, Message, Receipt, Scheduled, count_messages, join_drafts
from ..messages.position import After, Start
from ..messages.scheduled_id import ScheduledId
from ..messages.topic import TopicFilter
from .accepted import Accepted, PartialResult
from .changes import OnChange, Records, ignore_change
from .delayed import Delayed
from .directory import Directory
from .epochs import Epochs
from .groups.admin import GroupAdmin
from .groups.dead_index import Origin
from .groups.dead_letters import DeadLetters
from .groups.events import GroupEvents
from .groups.figures import GroupFigures
from .groups.groups import Groups, Settled
from .groups.listing import JobListing
from .groups.operating import Operating
from .groups.redrive import Redriving
from .groups.seek import Seeking
from .groups.troubles import NONE_SERVED
from .idempotency import IdempotencyStore
from .level import LEVEL
from .log import Log
from .reading import Reading, check_position
from .retries import Retries
from .run import Run
from .schedule import Schedule
from .slices import Slices, sliced
from .store import MessageStore
from .topic_admin import TopicAdmin
from .topic_log import Limits, TopicLog
from .totals import OPERATIONS, Totals
from .trimmer import TRIM_BATCH, Trimmer

RETRY_INTERVAL: Final = 10.0  # seconds until a delayed or dead message that found no room is tried again
DUE_BATCH: Final = 500  # due publishes that one call accepts: a few milliseconds, then other work gets its turn


class Outbox(msgspec.Struct, frozen=True):
    """`runs`: messages to deliver, in this order. `for_one`: the retained ones of them that are for one subscriber.
    `unclaimed`: topics in which others of that kind are unclaimed again."""

    runs: list[Run]
    for_one: list[Run]
    group_events: GroupEvents
    unclaimed: Sequence[str]

    def undelivered(self, receivers: Mapping[int, int]) -> list[int]:
        """The messages for one subscriber that reached none, to give back. `receivers`: their number by seq."""
        return [run.seq for run in self.for_one if not receivers.get(run.seq)]


class Pending(NamedTuple):
    """State that is not in the records: the topics, by seq, of messages in transit to one subscriber, and the topics
    that have to be trimmed further; and what is counted from the server's start."""

    in_transit: dict[int, str]
    over_retention: dict[str, None]
    settled: Settled


class LogStateMachine:
    def __init__(
        self, limits: Limits, epochs: Epochs, store: MessageStore, on_change: OnChange = ignore_change
    ) -> None:
        """`on_change` is called for each change of state that is not a message."""
        self.level = LEVEL  # of the decisions; a log with several servers uses one that all of them know
        self.log = Log(limits, epochs, store, on_change)
        self.trimmer = Trimmer(self.log)
        self.topics = TopicAdmin(self.log, self.trimmer, on_change)
        self.reading = Reading(self.log)
        self.groups = Groups(self.log, self.trimmer, on_change)
        self.figures = GroupFigures(self.log, self.groups)
        self.group_admin = GroupAdmin(self.log, self.trimmer, self.reading, self.groups, on_change)
        self.operating = Operating(self.log, self.groups)
        self.redriving = Redriving(self.log, self.trimmer, self.groups)
        self.seeking = Seeking(self.log, self.trimmer, self.reading, self.groups, self.group_admin, on_change=on_change)
        self.jobs = JobListing(self.log, self.groups)
        self.directory = Directory(self.log, self.groups, self.figures)
        self.dead_letters = DeadLetters(self.log, self.trimmer, self.groups, on_change)
        self.idempotency = IdempotencyStore(on_change)
        self.delayed = Delayed(on_change)
        self.schedule = Schedule(self.log, self.delayed)
        self.retries = Retries(self.log, self.delayed, self.groups)
        self._runs: list[Run] = []  # accepted, and not in an outbox yet
        self._to_trim: dict[TopicLog, int] = {}  # the number of messages since it was last trimmed

    def restore(
        self, records: Records, unclaimed: Iterable[tuple[str, int]], expiries: Iterable[tuple[int, float]],
        dead: Iterable[tuple[str, int, int, Origin]], ordered: Iterable[tuple[str, int, int, bool]], *,
        server_run: str,
    ) -> None:  # fmt: skip
        """Restore a stored state; the store has its messages. `server_run` names this run of the server: the
        connections of earlier runs are closed. The other arguments are those of Log.restore()."""
        self.log.restore(records, unclaimed, expiries, dead, ordered)
        self.groups.restore(records, server_run)
        self.log.schedule_checks()
        self.idempotency.restore(records["key"])
        self.schedule.restore(records["delayed"])

    @property
    def pending(self) -> Pending:
        """For resume() of the state machine that is restored if the next transaction fails."""
        return Pending(
            self.log.single_delivery.in_transit.copy(), self.trimmer.over_retention.copy(), copy(self.groups.settled)
        )

    def resume(self, pending: Pending) -> None:
        self.log.single_delivery.resume(pending.in_transit)
        self.trimmer.over_retention = pending.over_retention
        self.groups.settled = pending.settled

    @property
    def is_idle(self) -> bool:
        """True if there is nothing to carry out, and no deadline has moved forward."""
        return not (
            self._runs or self._to_trim or self.trimmer.over_retention or self.groups.has_events
            or self.log.single_delivery.returned
        )  # fmt: skip

    @property
    def has_outbox(self) -> bool:
        """Whether there is anything to carry out."""
        single = self.log.single_delivery
        return bool(self._runs or self._to_trim or self.groups.has_events or single.returned)

    def take_outbox(self) -> Outbox:
        single = self.log.single_delivery
        returned = single.take_returned() if single.returned else ()
        outbox = Outbox(self._runs, single.take_new(), self.groups.take_events(), returned)
        self._runs = []
        return outbox

    # Publishing

    def append(self, drafts: Sequence[Draft], now: float) -> Accepted | Receipt | Scheduled:
        """Accept drafts for one topic, with the same idempotency key, delay and time: all or none. Raises
        MessageTooLarge, TopicLimit, LogFull."""
        drafts = join_drafts(drafts)
        topic, key, due = drafts[0].envelope.topic, drafts[0].idempotency_key, self._due_time(drafts[0], now)
        if key is not None and (known := self.idempotency.find(topic, key, now)):
            return known
        answer = self._store(drafts, now) if due is None else self._schedule(drafts, due, now)
        if key is not None:
            result = answer.receipt({}) if isinstance(answer, Accepted) else answer
            self.idempotency.remember(topic, key, result, now)
        return answer

    def append_each(self, drafts: Sequence[Draft], now: float) -> Accepted | PartialResult:
        """Accept drafts for one topic, without an idempotency key or a delay: all of them; or, if they are refused
        together, each that can be accepted alone. A single draft is refused as by append()."""
        try:
            return self._store(join_drafts(drafts), now)
        except Refused:
            if len(drafts) == 1:
                raise
        return PartialResult([self._store_or_not(draft, now) for draft in drafts])

    def _store_or_not(self, draft: Draft, now: float) -> Accepted | Refused:
        try:
            return self._store((draft,), now)
        except Refused as error:
            return error

    def take(self, messages: Iterable[tuple[str, int]]) -> frozenset[int]:
        """Claim messages for one subscriber, each by topic and seq. Returns the seqs of those that were unclaimed."""
        return frozenset(seq for topic, seq in messages if self.log.single_delivery.take(topic, seq))

    def taken(self, seqs: Sequence[int]) -> None:
        """Messages for one subscriber have reached it, and are removed."""
        self._trim_later(self.log.taken(seqs))

    def give_back(self, seqs: Sequence[int]) -> None:
        """Messages for one subscriber have not reached it, and are unclaimed again."""
        self._trim_later(self.log.give_back(seqs))

    def _trim_later(self, topics: Iterable[TopicLog]) -> None:
        for topic in topics:
            self._to_trim.setdefault(topic, 0)

    def trim(self) -> None:
        """Trim the topics that have changed, once for all decisions that are carried out together. A message for one
        subscriber displaces no other message before it is known whether it is retained."""
        for topic, count in self._to_trim.items():
            self.trimmer.trim(topic, count)
        self._to_trim.clear()

    def deferred_result(self, receipt: Receipt, key: str) -> None:
        """The final receipt of the first publish with this idempotency key."""
        self.idempotency.set_result(key, receipt)

    def _store(self, drafts: Sequence[Draft], now: float) -> Accepted:
        self.trimmer.sweep(now)
        self.log.check_room(drafts)
        before = self.log.head
        runs = self.log.accept(drafts, now)
        topic = self.log.topics[drafts[0].envelope.topic]
        self._runs += runs
        self._to_trim[topic] = self._to_trim.get(topic, 0) + self.log.head - before
        self.groups.published(topic)
        return Accepted(runs, drafts[0].idempotency_key)

    def _schedule(self, drafts: Sequence[Draft], due: float, now: float) -> Scheduled:
        self.trimmer.sweep(now)
        self.log.check_room(drafts)
        return self.schedule.add(drafts, due, now)

    def _due_time(self, draft: Draft, now: float) -> float | None:
        """When the draft is due, by the log's clock; None: at once, without a delay."""
        if draft.at is not None:
            return max(draft.at - self.log.clock.ahead, now)
        return None if draft.delay is None else now + draft.delay

    # Delayed publishes

    def publish_scheduled(self, id: ScheduledId, now: float) -> Accepted:
        """Publish now what is scheduled. Raises NotFound, MessageTooLarge, LogFull; then it stays scheduled."""
        self.schedule.existing(id)
        return self._publish_delayed(id.number, now)

    def cancel_scheduled(self, id: ScheduledId, now: float) -> None:
        """Raises NotFound."""
        publish = self.schedule.existing(id)
        self.schedule.remove(id.number, now)
        self.groups.settled.cancelled += count_messages(publish.drafts)
        if (key := publish.drafts[0].idempotency_key) is not None:
            self.idempotency.cancel(publish.topic, key, str(id))

    def _publish_delayed(self, number: int, now: float) -> Accepted:
        publish = self.delayed.record(number)
        assert publish is not None
        self.log.memory.release(publish.drafts)  # so that there is room for them
        try:
            accepted = self._store(publish.drafts, now)
        finally:
            self.log.memory.reserve(publish.drafts)
        self.schedule.remove(number, now)
        return accepted

    # Time

    @property
    def deadline(self) -> float:
        """The next time at which pass_time() has effects for clients. 0.0: at once."""
        if self.trimmer.over_retention:
            return 0.0
        return min(self.delayed.next(self.log.clock.ahead), self.groups.deadline)

    def catch_up(self, now: float) -> None:
        """Do what is due, if anything is: before a question, so that the answer is of now and changes nothing."""
        if self.is_due(now):
            self.pass_time(now)

    def is_due(self, now: float) -> bool:
        """False when pass_time() has nothing to do."""
        return self.deadline <= now or self.trimmer.is_due(now)

    def pass_time(self, now: float) -> None:
        """Do what is due: before a change, and at the deadline."""
        self.trimmer.sweep(now)
        self._publish_due(now)
        if self.groups.closing:
            self.group_admin.continue_dropping()
        self.groups.pass_time(now)
        self.follow_up(now)

    def _publish_due(self, now: float) -> None:
        for number in islice(self.delayed.due(now, self.log.clock.ahead), DUE_BATCH):
            try:
                self._publish_delayed(number, now)
            except PlainmqError:  # accepted messages are not lost: they wait until there is room
                self.delayed.postpone(number, now + RETRY_INTERVAL)

    def follow_up(self, now: float) -> None:
        """Move messages that are out of attempts to their dead-letter topics: after a change."""
        for letter in self.dead_letters.pending(now):
            try:
                self._store([letter.draft], now)
            except PlainmqError:  # the message is not lost: it waits in its group until there is room
                self.dead_letters.postpone(letter, now + RETRY_INTERVAL)
            else:
                self.dead_letters.published(letter)

    # Limits

    def set_limits(self, limits: Limits) -> Slices[None]:
        """Topics without settings of their own get the default retention that these have."""
        self.log.set_limits(limits)
        for topics in sliced([*self.log.topics.values()]):
            for topic in topics:
                self.topics.use_default(topic)
            yield

    # Topics

    def configure(self, topic: str, changes: Mapping[str, float], now: float) -> Slices[None]:
        """Change fields of the topic's Retention; a missing topic is created. Raises TopicLimit."""
        self.topics.configure(topic, changes, now)
        yield from self.retries.of_topic(topic, now)

    def pause(self, topic: str, paused: bool, now: float) -> Slices[None]:
        """Raises NotFound."""
        self.topics.pause(topic, paused)
        if not paused:
            yield from self.retries.of_topic(topic, now)

    def configure_group(
        self, topic: str, name: str, changes: Mapping[str, Any], start: tuple[str, Start] | None, now: float, *,
        make: bool,
    ) -> Slices[None]:  # fmt: skip
        """As GroupAdmin.configure()."""
        yield from self.group_admin.configure(topic, name, changes, start, now, make=make)
        yield from self.retries.of_group(topic, name, now)

    def drop(self, topic: str, now: float) -> Slices[None]:
        """Drop a topic with its messages, delayed publishes, groups and keys. Messages that are published after the
        first slice are retained. Raises NotFound."""
        known, end = self.topics.reset(topic), self.log.head
        self.idempotency.drop(topic)
        for numbers in sliced(self.delayed.of_topic(topic)):
            for number in numbers:
                self.schedule.remove(number, now)
            yield
        yield from self.group_admin.drop_all(topic)
        while not self.trimmer.remove_up_to(known, end):
            yield

    def purge(self, topic: str, before: tuple[str, Start] | None, now: float) -> Slices[int]:
        """Remove the messages of a topic that are before a position, as written and as parsed (None: all that there are
        now), also those that groups hold, and their keys; its settings and groups stay. Returns how many. Raises
        NotFound, OptionInvalid."""
        end, purged, over = self.log.head, 0, False
        self.log.existing(topic)
        if before is not None:
            cursor = yield from self.reading.locate(TopicFilter([topic]), before[1], now)
            check_position(before[0], cursor)
            end = cursor.seq - isinstance(before[1], After)  # the message with this id stays
        self.idempotency.purge(topic, end)
        while not over:
            part = self.trimmer.purge(self.log.existing(topic), end)
            purged += part
            self.groups.settled.purged += part
            over = part < TRIM_BATCH
            self.groups.check()
            yield
        yield from self.retries.of_topic(topic, now)
        return purged

    def totals(self, served: Set[tuple[str, str]] = NONE_SERVED) -> Slices[Totals]:
        """`served`: groups that have consumers, by topic and name."""
        limits = self.log.limits
        held = limits.memory_bytes - self.log.memory.left()
        settled = self.groups.settled
        totals = Totals(self.log.memory.total, limits.total_bytes, len(self.log.topics), held, limits.memory_bytes)
        totals.topics_limit = limits.topics
        totals.acked_total, totals.dead_total = settled.acked, settled.dead
        totals.operations = {name: getattr(settled, name) for name in OPERATIONS}
        for topics in sliced([*self.log.topics.values()]):
            for topic in topics:
                totals.messages += topic.messages.live
                totals.bytes += topic.bytes
                totals.paused_topics += topic.paused
                if topic.unacked is not None:
                    self.figures.count(topic, totals, served)
            yield
        return totals

    def get(self, id: Id, now: float) -> Message | None:
        return self.log.get(id.seq, now) if self.log.epochs.knows(id) else None
