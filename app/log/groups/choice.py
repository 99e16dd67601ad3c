"""Choosing what a group hands out next, if its topic has messages with a priority or an order key.

Higher priorities come first; in each of them, jobs that are ready again come before new messages, and older messages
before newer ones. A message whose key is busy is passed over, and waits.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Final

from ...messages.message import Message
from ..log import Log
from ..ordered_messages import TopicOrder
from ..topic_log import TopicLog
from .group import Group
from .job import JOB_COST, JobState

MAX_OVERTAKING: Final = 8  # messages that are handed out in a row while one of a lower priority is ready
MAX_AHEAD: Final = 10_000  # settled messages after the cursor: each has a record, and the topic still holds it
AHEAD_SHARE: Final = 4  # likewise, the part of what the topic keeps; beyond, what was overtaken comes first
SEARCH_BATCH: Final = 1_000  # messages of a priority that one claim passes over: a millisecond


class Choice:
    """One claim. An iterator of the messages to hand out; the caller must lease each before it asks for the next. A
    priority of which it has passed over SEARCH_BATCH messages is `cut_short`: the next claim goes on from there."""

    def __init__(self, log: Log, topic: TopicLog, group: Group, find: Callable[[int], Message | None]) -> None:
        """`find` looks a message of the topic up; it is None if the message is gone."""
        self._topic = topic
        self._group = group
        self._find = find
        self._room = max(log.memory.left() // JOB_COST, 0)  # for so many new jobs
        self.cut_short = False
        self._mind = group.precede()
        self._most_ahead = min(MAX_AHEAD, max(topic.retention.max_messages // AHEAD_SHARE, 1))
        order = log.ordered.of(topic.name) or TopicOrder()
        for seq in group.jobs.take_all_requeued():
            heappush(self._mind.ready.setdefault(order.priority_of(seq), []), seq)
        levels = sorted({0, *self._mind.ready, *order.levels}, reverse=True)
        self._streams: dict[int, Iterator[Message]] = {level: self._stream(level, order) for level in levels}
        self._heads: dict[int, Message] = {}  # by priority: the next message of the stream, if it is known

    def __iter__(self) -> Iterator[Message]:
        try:
            while (message := self._next()) is not None:
                del self._heads[priority_of(message)]
                yield message
        finally:
            self._streams.clear()  # they refer to this object

    def _next(self) -> Message | None:
        found = (head for level in self._streams if (head := self._head(level)) is not None)
        first, lower = next(found, None), next(found, None)
        if first is None:
            return None
        mind = self._mind
        if lower is None:
            mind.overtaking = mind.overtaking if self.cut_short else 0
            return first
        if mind.overtaking < MAX_OVERTAKING and len(self._group.ahead) < self._most_ahead:
            mind.overtaking += 1
            return first
        mind.overtaking = 0
        return min((lower, *found), key=lambda message: message.seq)

    def _head(self, level: int) -> Message | None:
        """The next message of this priority whose key is free."""
        while (head := self._heads.pop(level, None) or next(self._streams[level], None)) is not None:
            if self._is_free(head):
                self._heads[level] = head
                return head
        return None

    def _is_free(self, message: Message) -> bool:
        """If its key is busy, the message waits. If too many wait already, no new message of its priority is taken."""
        key, keys, seq = key_of(message), self._mind.keys, message.seq
        if not (key and keys.is_busy(key, seq)):
            return True
        if seq not in self._group.jobs.by_seq:
            if keys.is_full:
                self._streams[priority_of(message)] = iter(())
                return False
            self._group.take_up(seq)
        keys.wait(key, seq, priority_of(message))
        return False

    # The messages of one priority

    def _stream(self, level: int, order: TopicOrder) -> Iterator[Message]:
        """The caller must hand out each message, or make it wait, before it asks for the next."""
        yield from self._ready(self._mind.ready.get(level, []))
        for message in self._new_plain() if level == 0 else self._new(level, order):
            if self._room > 0:
                yield message
                self._room -= 1
            if self._room <= 0:  # the message, if it was not handed out, is still the next one
                return

    def _ready(self, heap: list[int]) -> Iterator[Message]:
        while heap:
            is_ready = self._group.jobs.state_of(heap[0]) is JobState.READY
            if is_ready and (message := self._find(heap[0])) is not None:
                yield message
            heappop(heap)

    def _new(self, level: int, order: TopicOrder) -> Iterator[Message]:
        """The messages of a priority that were never handed out."""
        searched, left = self._mind.searched, SEARCH_BATCH
        while (seqs := order.levels.get(level)) is not None:
            seq = seqs.after(max(self._group.cursor, searched.get(level, 0)))
            if seq is None:
                return
            if not self._group.is_known(seq) and (message := self._find(seq)) is not None:
                yield message
            elif not (left := left - 1):
                self.cut_short = True
                return
            searched[level] = seq

    def _new_plain(self) -> Iterator[Message]:
        """The messages without a priority that were never handed out."""
        searched, group, left = self._mind.searched, self._group, SEARCH_BATCH
        begin = max(group.cursor, searched.get(0, 0))
        for run in self._topic.messages.after(begin):
            ordering = run.envelope.ordering
            if run.for_all and (ordering is None or not ordering.priority):
                for seq in [seq for seq in run.seqs if seq > begin]:
                    if not group.is_known(seq) and (message := self._find(seq)) is not None:
                        yield message
                    elif not (left := left - 1):
                        self.cut_short = True
                        return
                    searched[0] = seq
            elif not (left := left - 1):
                self.cut_short = True
                return
            searched[0] = run.seq


def priority_of(message: Message) -> int:
    return message.ordering.priority if message.ordering is not None else 0


def key_of(message: Message) -> str:
    """Empty if it has none."""
    return (message.ordering.key if message.ordering is not None else None) or ""
