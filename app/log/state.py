"""What an engine decides: the log, its groups, its keys and what is delayed, as plain functions of the time.

No I/O, no tasks, no clock: engines differ only in when a decision counts, at once or when a disk has it. Then what is
in the outbox must happen: messages are delivered, in log order, those for one are handed() back, workers hear the news.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import inf
from typing import ClassVar, Final, NamedTuple

import msgspec

from ..errors import PlainmqError, Refused
from ..messages.message import ONE, Draft, Id, Message, Receipt, Scheduled, count_messages, join_drafts
from .changes import OnChange, Records, ignore_change
from .delayed import Delayed
from .epochs import Epochs
from .groups.admin import GroupAdmin
from .groups.dead_letters import DeadLetters
from .groups.events import GroupEvents
from .groups.groups import Groups
from .idempotency import IdempotencyStore
from .log import Log
from .reading import Reading
from .run import Run
from .slices import Slices, sliced
from .store import MessageStore
from .topic_admin import TopicAdmin
from .topic_log import Limits, weigh
from .totals import Totals
from .trimmer import Trimmer

RETRY_INTERVAL: Final = 10.0  # seconds until a message for which there was no room (delayed, or dead) is tried again
DUE_BATCH: Final = 500  # delayed publishes that become due together: some milliseconds, then others get their turn


class Accepted(msgspec.Struct, frozen=True):
    """A publish that took its place in the log."""

    runs: list[Run]
    key: str | None

    def receipt(self, readers: Mapping[int, int]) -> Receipt:
        """What the publisher is told, when it is known to how many each message (by seq) was handed."""
        run, last = self.runs[0], self.runs[-1]
        first = run.first
        subscribers = max([readers.get(seq, 0) for seq in range(first, last.seq + 1)]) if readers else 0
        return Receipt(
            f"{run.epoch}-{first}", run.envelope.topic, run.index - (run.seq - first), subscribers,
            f"{last.epoch}-{last.seq}", last.seq - first + 1,
        )  # fmt: skip


class PartialResult(msgspec.Struct, frozen=True):
    """Publishes that were refused together: what became of each."""

    outcomes: list[Accepted | Refused]
    key: ClassVar[None] = None

    def receipt(self, readers: Mapping[int, int]) -> list[Receipt | Refused]:
        """The same for each."""
        return [one.receipt(readers) if isinstance(one, Accepted) else one for one in self.outcomes]


DEFERRED: Final = (Accepted, PartialResult)  # their receipt is known when it is known who was there


class Outbox(msgspec.Struct, frozen=True):
    """`runs`: to be delivered, in this order; those `for_one` are to be handed() back. `news`: for the workers of
    groups."""

    runs: list[Run]
    for_one: list[Run]
    group_events: GroupEvents


class Pending(NamedTuple):
    """What follows from decisions that were carried out, and is not in the notes: messages for one that are on their
    way (their topics, by seq), and topics that are to be cut further."""

    in_transit: dict[int, str]
    over_retention: dict[str, None]


class LogStateMachine:
    def __init__(
        self, limits: Limits, epochs: Epochs, store: MessageStore, on_change: OnChange = ignore_change,
        life: str = "memory",
    ) -> None:  # fmt: skip
        """`on_change` is called for each change of state that is not a message. `life` names this run of the server."""
        self.log = Log(limits, epochs, store, on_change)
        self.trimmer = Trimmer(self.log)
        self.topics = TopicAdmin(self.log, self.trimmer, on_change)
        self.reading = Reading(self.log, self.trimmer)
        self.groups = Groups(self.log, self.trimmer, on_change, life)
        self.group_admin = GroupAdmin(
            self.log, self.trimmer, self.reading, self.groups, max_groups=limits.groups, on_change=on_change
        )
        self.dead_letters = DeadLetters(self.log, self.trimmer, self.groups, on_change)
        self.idempotency = IdempotencyStore(on_change)
        self.delayed = Delayed(on_change)
        self._runs: list[Run] = []  # accepted, and not in an outbox yet
        self._for_one: list[Run] = []  # among them
        self._to_trim: dict[str, int] = {}  # topics to be held to their retention, and how many messages came

    def restore(
        self, records: Records, waiting: Iterable[tuple[str, int]], expiries: Iterable[tuple[int, float]],
        dead: Iterable[tuple[str, int, int]],
    ) -> None:  # fmt: skip
        """Take up where another core left off, with its messages in the history. `waiting`: topics and seqs of what was
        kept for one subscriber; `expiries`: seqs of what has a ttl, and its end; `dead`: topics, seqs and bytes of what
        is dead."""
        self.log.restore(records, waiting, expiries, dead)
        self.groups.restore(records)
        self.log.schedule_checks()
        self.idempotency.restore(records["key"])
        self.delayed.restore(records["delayed"])
        self.log.find_delayed(self.delayed.drafts())
        for topic, count in self.delayed.counters().items():
            self.log.count_delayed(topic, count, 0.0)

    @property
    def pending(self) -> Pending:
        """For the core that takes up from here if the next transaction fails."""
        return Pending(self.log.single_delivery.in_transit.copy(), self.trimmer.over_retention.copy())

    def resume(self, pending: Pending) -> None:
        self.log.single_delivery.resume(pending.in_transit)
        self.trimmer.over_retention = pending.over_retention

    @property
    def is_idle(self) -> bool:
        """Nothing was decided that must happen now, or before the deadline that was there."""
        return not (self._runs or self._to_trim or self.trimmer.over_retention or self.groups.has_events)

    def take_outbox(self) -> Outbox:
        outbox = Outbox(self._runs, self._for_one, self.groups.take_events())
        self._runs, self._for_one = [], []
        return outbox

    # Publishing

    def append(self, drafts: Sequence[Draft], now: float) -> Accepted | Receipt | Scheduled:
        """Accept drafts for one topic and with the same key and delay, all or none. Raises MessageTooLarge, TopicLimit,
        LogFull."""
        drafts = join_drafts(drafts)
        topic, key, delay = drafts[0].envelope.topic, drafts[0].key, drafts[0].delay
        if key is not None and (known := self.idempotency.find(topic, key, now)):
            return known
        answer = self._store(drafts, now) if delay is None else self._schedule(drafts, now + delay, now)
        if key is not None:
            told = answer.receipt({}) if isinstance(answer, Accepted) else answer
            self.idempotency.remember(topic, key, told, now)
        return answer

    def append_each(self, drafts: Sequence[Draft], now: float) -> Accepted | PartialResult:
        """Accept drafts for one topic, without a key or a delay: all of them, or if they are refused together, those
        that are not refused by themselves. One draft alone is refused as by append()."""
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

    def resolved(self, readers: Mapping[int, int], runs: Iterable[Run]) -> None:
        """These, each of one message for one, were delivered to so many (by seq): it waits if that is nobody."""
        self.give_back([run.seq for run in runs if not readers.get(run.seq)])

    def taken(self, seqs: Sequence[int]) -> None:
        """Each of these is for one, and somebody has it: it is gone."""
        self._trim_later(self.log.taken(seqs))

    def give_back(self, seqs: Sequence[int]) -> None:
        """Each of these is for one who was to have it and has not: somebody else shall."""
        self._trim_later(self.log.give_back(seqs))

    def _trim_later(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self._to_trim.setdefault(topic, 0)

    def trim(self) -> None:
        """Hold the topics to their retention: at the end of what is decided together. What is for one takes nobody's
        place before it is known whether it stays."""
        for topic, came in self._to_trim.items():
            self.trimmer.trim_accepted(topic, came)
        self._to_trim.clear()

    def deferred_result(self, receipt: Receipt, key: str) -> None:
        """What the first publisher with this key was told in the end."""
        self.idempotency.set_result(key, receipt)

    def _store(self, drafts: Sequence[Draft], now: float) -> Accepted:
        self.trimmer.sweep(now)
        self.log.check_room(drafts)
        runs, topic = self.log.accept(drafts, now), drafts[0].envelope.topic
        self._runs += runs
        came = self._to_trim.get(topic, 0)
        for run in runs:
            came += run.live
            if run.envelope.delivery is ONE:
                self._for_one.append(run)
        self._to_trim[topic] = came
        self.groups.published(topic)
        return Accepted(runs, drafts[0].key)

    def _schedule(self, drafts: Sequence[Draft], due: float, now: float) -> Scheduled:
        self.trimmer.sweep(now)
        self.log.check_room(drafts)
        self.log.check_memory(weigh(drafts).memory)
        self.log.count_delayed(drafts[0].envelope.topic, count_messages(drafts), now)
        self._delay(drafts, due)
        return Scheduled(count_messages(drafts), due + self.log.ahead)

    def _delay(self, drafts: Sequence[Draft], due: float) -> None:
        self.log.reserve(drafts)
        self.delayed.add(drafts, due)

    # Time

    @property
    def deadline(self) -> float:
        """When something is due next of which others must hear."""
        if self.trimmer.over_retention or self.groups.busy:
            return 0.0
        return min(self.delayed.next() or inf, self.groups.deadline or inf)

    def pass_time(self, now: float) -> None:
        """Do what is due by now: before a worker's call, and when the deadline comes."""
        self.trimmer.sweep(now)
        self._publish_due(now)
        if self.groups.closing:
            self.group_admin.continue_dropping()
        self.groups.pass_time(now)
        self.follow_up(now)

    def _publish_due(self, now: float) -> None:
        for drafts in islice(self.delayed.due(now), DUE_BATCH):
            self.log.release(drafts)
            try:
                self._store(drafts, now)
            except PlainmqError:  # what was accepted stays accepted: it waits until there is room
                self._delay(drafts, now + RETRY_INTERVAL)
            else:
                self.log.count_delayed(drafts[0].envelope.topic, -count_messages(drafts), now)

    def follow_up(self, now: float) -> None:
        """Move messages that are out of attempts to their dead-letter topics: after a consumer's call."""
        for letter in self.dead_letters.pending(now):
            try:
                self._store([letter.draft], now)
            except PlainmqError:  # the message is not lost: it waits in its group until there is room
                self.dead_letters.postpone(letter, now + RETRY_INTERVAL)
            else:
                self.dead_letters.published(letter)

    # Topics

    def drop(self, topic: str, now: float) -> Slices[None]:
        """Forget a topic, its messages, those that are to come later, its groups and its keys. What comes behind the
        first slice stays. Raises NotFound."""
        known, end = self.topics.reset(topic), self.log.head
        self.idempotency.drop(topic)
        for part in sliced(self.delayed.drop(topic)):
            for drafts in part:
                self.log.release(drafts)
                self.log.count_delayed(topic, -count_messages(drafts), now)
            yield
        yield from self.group_admin.drop_all(topic)
        while not self.trimmer.remove_up_to(known, end):
            yield

    def totals(self) -> Slices[Totals]:
        totals = Totals(self.log.total, len(self.log.topics))
        for topics in sliced([*self.log.topics.values()]):
            for topic in topics:
                totals.messages += topic.messages.live
                totals.bytes += topic.bytes
                if topic.unacked is not None:
                    self.groups.count(topic, totals)
            yield
        return totals

    def get(self, id: Id, now: float) -> Message | None:
        self.trimmer.sweep(now)
        return self.log.get(id.seq, now) if self.log.epochs.knows(id) else None
