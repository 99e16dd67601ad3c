"""Retention: the trimmer removes messages that exceed a topic's bounds or have expired, and drops idle topics.

A message is held while a group of its topic has not acked it, and a dead one while no group of the dead-letter topic
has. Of what exceeds the bounds, held messages stay; expired ones go even if they are held.

Work that is due is done by the next call, never by a task of its own. Each call is limited to a few milliseconds; the
rest remains due.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from ..messages.message import Message
from .log import Log
from .run import Run
from .topic_log import TopicLog

TRIM_BATCH: Final = 200  # messages that one call trims from a topic: a few milliseconds with a file
SWEEP_BATCH: Final = 250  # expired messages that one call removes
CHECK_BATCH: Final = 50  # topics that one call checks for old messages and for idleness


class Trimmer:
    """`over_retention`: topics that may exceed their retention; the next sweep trims them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._expiries, self._check_times = log.expiries, log.check_times
        self._in_transit_of = log.single_delivery.in_transit_of
        self.over_retention: dict[str, None] = {}

    def find_over_retention(self) -> None:
        """After a start: topics may exceed their retention, since the default may have changed."""
        for topic in self._log.topics.values():
            self.check_bounds(topic)

    def check_bounds(self, topic: TopicLog) -> None:
        """Its retention may have changed: the next sweep trims it."""
        if topic.messages.live > topic.retention.max_messages or topic.bytes > topic.retention.max_bytes:
            self.over_retention[topic.name] = None

    def is_due(self, now: float) -> bool:
        """False when sweep() has nothing to do."""
        return bool(self.over_retention) or self._expiries.may_be_due(now) or self._check_times.may_be_due(now)

    def sweep(self, now: float) -> None:
        """Do what is due: remove expired messages, trim by age, drop idle topics.

        Messages that have expired and are not removed yet do no harm: subscribers do not get them.
        """
        # not is_due(): a call more for each publish
        if self.over_retention or self._expiries.may_be_due(now) or self._check_times.may_be_due(now):
            for seq in islice(self._expiries.due(now), SWEEP_BATCH):
                if message := self._log.messages.get(seq):
                    self._log.remove(message)
            if self.over_retention:  # one at a time: there may be many after a start
                name = next(iter(self.over_retention))
                del self.over_retention[name]
                self._check(name, now)
            left = TRIM_BATCH
            for name in islice(self._check_times.due(now), CHECK_BATCH):
                left -= self._check(name, now)
                if left <= 0:
                    break

    def _check(self, name: str, now: float) -> int:
        """Trim the topic, or drop it if it is idle. Returns the number of removed messages."""
        topic = self._log.topics.get(name)
        if topic is None:
            return 0
        before = topic.messages.live
        self.trim_by_age(topic, now)
        self.trim(topic)
        if topic.stays or topic.last_used + self._log.limits.topic_idle > now:
            self._log.schedule_check(topic)
        else:
            self._log.drop_topic(topic)
        return before - topic.messages.live

    def trim(self, topic: TopicLog, more: int = 0) -> None:
        """Remove messages that exceed the bounds of number and bytes: at most TRIM_BATCH, and as many `more` as were
        accepted or released since the last time, so that the topic cannot grow without end. Messages in transit to a
        subscriber do not count against the number: they will be gone soon."""
        messages, limit, max_bytes = topic.messages, TRIM_BATCH + more, topic.retention.max_bytes
        max_messages = topic.retention.max_messages + self._in_transit_of.get(topic.name, 0)
        if topic.unacked is not None:
            if messages.live > max_messages or topic.bytes > max_bytes:
                self._trim_unheld(
                    topic, limit, lambda _message: messages.live > max_messages or topic.bytes > max_bytes
                )
            return
        excess = messages.live - max_messages
        if excess > 0:
            self._log.trimmed(topic, messages.shift(min(excess, limit)))
        if excess > limit:
            self.over_retention[topic.name] = None
        elif topic.bytes > max_bytes:
            self._trim_front(topic, limit, lambda first: first.fewest_with(topic.bytes - max_bytes))

    def trim_by_age(self, topic: TopicLog, now: float) -> None:
        oldest_allowed = now - topic.retention.max_age
        if topic.unacked is None:
            self._trim_front(topic, TRIM_BATCH, lambda first: first.live if first.at <= oldest_allowed else 0)
        else:
            self._trim_unheld(topic, TRIM_BATCH, lambda message: message.at <= oldest_allowed)

    def _trim_front(self, topic: TopicLog, limit: int, excess: Callable[[Run], int]) -> None:
        """Remove the oldest messages of a topic that holds none. `excess`: how many messages of its first run."""
        messages = topic.messages
        while messages.live and (count := excess(messages.first)):
            if not limit:
                self.over_retention[topic.name] = None
                break
            before = messages.live
            self._log.trimmed(topic, messages.shift(min(count, limit)))
            limit -= before - messages.live

    def _trim_unheld(self, topic: TopicLog, limit: int, exceeds: Callable[[Message], bool]) -> None:
        """Remove the oldest messages that are not held. `exceeds`: whether the message has to go."""
        for count, message in enumerate(topic.removable()):
            if not exceeds(message):
                break
            if count == limit:
                self.over_retention[topic.name] = None
                break
            if run := self._log.remove(message):
                self._log.trim_marks.add(topic.trim_mark, (run,))
        if topic.unacked is not None and topic.unacked.is_scanning:
            self.over_retention[topic.name] = None

    def settled(self, topic: TopicLog, seqs: Iterable[int]) -> None:
        """A group has acked these messages, or released them. Retention may remove those that no group needs now; of
        them, dead and redriven messages are removed at once."""
        released = sum([self._release(topic, seq) for seq in seqs])
        if released:
            self.trim(topic, released)
            self._log.schedule_check(topic)

    def _release(self, topic: TopicLog, seq: int) -> bool:
        run = topic.messages.find(seq)
        if run is None or topic.unacked is None:
            return False
        redriven = run.envelope.redrive is not None
        if not redriven and topic.unacked.is_needed(seq):
            return False
        self._log.release_held(topic, seq, run.size(seq))
        if redriven or seq in topic.unacked.dead:
            self._log.remove(next(run.messages))
        return True

    def remove_up_to(self, topic: TopicLog, end: int) -> bool:
        """Remove at most TRIM_BATCH of the topic's messages up to the seq `end`. True when none is left; then the topic
        is dropped too, unless it has newer messages. Subscribers that resume there get a gap."""
        if self._log.topics.get(topic.name) is not topic:  # another call has dropped it since
            return True
        over = self.purge(topic, end) < TRIM_BATCH
        if over and not topic.stays:
            self._log.drop_topic(topic)
        return over

    def purge(self, topic: TopicLog, end: int) -> int:
        """Remove at most TRIM_BATCH of the topic's messages up to the seq `end`, also those that groups hold. Returns
        their number. Subscribers that resume there get a gap."""
        log = self._log
        removed: list[Run] = []
        messages, left = topic.messages, TRIM_BATCH
        while left and messages.live and (first := messages.first).first <= end:
            before = messages.live
            removed += messages.shift(min(first.live - first.count_after(end), left))
            left -= before - messages.live
        for run in removed if topic.unacked else ():
            for message in run.messages:
                log.forget_held(topic, message)
        if removed:
            log.trimmed(topic, removed)
        return TRIM_BATCH - left
