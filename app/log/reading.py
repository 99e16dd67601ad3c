"""Reading the log: where a reader starts, what follows, and what it has missed.

Like the log, plain functions of the time they are given. Who takes what is for one is the only one who gets it; the log
keeps it until that one has it.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heapreplace, merge
from itertools import islice
from operator import attrgetter
from typing import Any, Final

import msgspec

from ..messages.message import ONE, Message, rfc3339
from ..messages.position import After, AfterIndex, Ago, Cursor, Earliest, Gap, GapReason, Last, Latest, Since, Start
from ..messages.topic import TopicFilter
from .log import Log
from .run import Run
from .slices import SLICE, Slices, sliced
from .topic_log import TopicLog
from .trimmer import Trimmer
from .trims import TrimMark

SCAN_BATCH: Final = 500  # things a reader looks at in one page: some milliseconds, then others get a turn
RUN_EFFORT: Final = 16  # as many things as the first run of a ring counts that has to be found, maybe in a file

_seq = attrgetter("seq")


class Page(msgspec.Struct, frozen=True):
    """A stretch of the log: the gap before it, if its start is gone; the selected messages; where to read on.
    `behind`: all of these had waited behind the cursor for a first subscriber, and there may be more of them."""

    messages: list[Message]
    cursor: Cursor
    gap: Gap | None = None
    behind: bool = False


class Reading:
    def __init__(self, log: Log, trimmer: Trimmer) -> None:
        self._log = log
        self._trimmer = trimmer

    def locate(self, topic_filter: TopicFilter, start: Start, now: float) -> Slices[Cursor]:
        """The cursor from which a reader of the selection finds what it asked for and nothing else."""
        self._trimmer.sweep(now)
        return (yield from _LOCATE[type(start)](self, topic_filter, start, now))

    def read(
        self, topic_filter: TopicFilter, cursor: Cursor, now: float, *, upto: int, limit: int, nbytes: int, take: bool
    ) -> Slices[Page]:
        """The selected messages after the cursor up to place `upto`, oldest first: at most `limit`, and no more after
        `nbytes` bytes of bodies. A taking reader also gets, first of all, what waits for anybody to take it."""
        self._trimmer.sweep(now)
        unclaimed = take and self._log.single_delivery.unclaimed
        behind = self._wait_behind(topic_filter, cursor.seq, now, limit, nbytes) if unclaimed else []
        if len(behind) == limit or sum(len(message.data) for message in behind) >= nbytes:
            return Page(self._taken(behind), cursor, behind=True)
        ahead, place = self._collect(
            topic_filter, cursor.seq, upto=upto, limit=limit - len(behind), nbytes=nbytes, take=take
        )
        ahead = [message for message in ahead if not message.expired(now)]
        gone = cursor.reason is not None or self._log.trim_marks.newest > max(cursor.seq, cursor.reported)
        loss = (yield from self.trim_mark(topic_filter)) if gone else TrimMark()
        messages = self._taken(behind + ahead)
        if cursor.reason is None and loss.seq <= max(cursor.seq, cursor.reported):
            return Page(messages, Cursor(place, cursor.reported))
        return Page(
            messages, Cursor(place, max(loss.seq, cursor.reported)), self._gap(topic_filter, cursor, loss, ahead)
        )

    def trim_mark(self, topic_filter: TopicFilter) -> Slices[TrimMark]:
        """The newest loss in the selection; when it is a single topic, all of its loss. One that comes between two
        slices may be told too soon, and never is forgotten."""
        topics, losses = self._log.topics, self._log.trim_marks
        found = [self._trim_mark_of(name) for name in topic_filter.topics]
        if topic_filter.patterns:
            found.append(losses.floor)
            for names in sliced([*topics, *losses.forgotten], topic_filter.effort):
                found += [self._trim_mark_of(name) for name in names if topic_filter.matches(name)]
                yield
        return max(found, key=_seq)

    def missing(self, topic: str, cursor: Cursor) -> Gap | None:
        """What is gone behind the cursor."""
        loss = self._trim_mark_of(topic)
        if cursor.reason is None and loss.seq <= max(cursor.seq, cursor.reported):
            return None
        runs = self._log.existing(topic).messages.after(cursor.seq)
        follows = (message for run in runs if run.for_all for message in run.after(cursor.seq))
        return self._gap(TopicFilter([topic]), cursor, loss, [*islice(follows, 1)])

    def _trim_mark_of(self, name: str) -> TrimMark:
        topic = self._log.topics.get(name)
        return self._log.trim_marks.of(name) if topic is None else topic.trim_mark

    def _gap(self, topic_filter: TopicFilter, cursor: Cursor, loss: TrimMark, messages: list[Message]) -> Gap:
        whole = cursor.reason is None and cursor.reported == 0 and cursor.seq < loss.first
        single = len(topic_filter.topics) == 1 and not topic_filter.patterns
        return Gap(
            cursor.requested or f"{self._log.epochs.of(cursor.seq)}-{cursor.seq}",
            cursor.reason or GapReason.TRIMMED,
            loss.count if whole and single else None,
            messages[0].id if messages else None,
        )

    def _collect(
        self, topic_filter: TopicFilter, after: int, *, upto: int, limit: int, nbytes: int, take: bool
    ) -> tuple[list[Message], int]:
        """The messages of a page and the place up to which the log was looked at for them."""
        messages: list[Message] = []
        place, looked, effort = after, 0, topic_filter.effort
        for run in self._candidates(topic_filter, after):
            if run.first > upto:
                break
            if len(messages) == limit or nbytes <= 0 or looked >= SCAN_BATCH:
                return messages, place
            looked += effort
            place = min(run.seq, upto)
            if not (run.for_all or (take and self._waits(run))) or not topic_filter.matches(run.envelope.topic):
                continue
            for message in run.after(after):
                if message.seq > upto:
                    break
                if len(messages) == limit or nbytes <= 0:
                    return messages, messages[-1].seq
                messages.append(message)
                nbytes -= len(message.data)
        return messages, upto

    def _waits(self, run: Run) -> bool:
        """What is for one is alone in its run."""
        return self._log.topics[run.envelope.topic].for_one[run.seq]

    def _candidates(self, topic_filter: TopicFilter, after: int) -> Iterator[Run]:
        if topic_filter.patterns:
            return self._log.messages.after(after)
        rings = [
            self._log.topics[name].messages.after(after) for name in topic_filter.topics if name in self._log.topics
        ]
        return rings[0] if len(rings) == 1 else merge(*rings, key=_seq)

    def _wait_behind(self, topic_filter: TopicFilter, seq: int, now: float, limit: int, nbytes: int) -> list[Message]:
        """What waits at or before that place: a new reader is the first subscriber it waited for."""
        topics = [
            self._log.topics[name]
            for name in self._log.single_delivery.unclaimed
            if name in topic_filter.topics or topic_filter.matches(name)
        ]
        every = (self._log.messages.get(seq) for seq in merge(*(topic.waiting for topic in topics)))
        waiting = (message for message in every if message is not None and not message.expired(now))
        found: list[Message] = []
        for message in islice(waiting, limit):
            if message.seq > seq or nbytes <= 0:
                break
            found.append(message)
            nbytes -= len(message.data)
        return found

    def _taken(self, messages: list[Message]) -> list[Message]:
        """Without what is for one and was given to somebody else between two slices; the rest of that waits no longer.
        No slice may follow: who begins anew would not find it again."""
        take = self._log.single_delivery.take
        return [message for message in messages if message.delivery is not ONE or take(message)]

    # Where a reader starts

    def _latest(self, _selector: TopicFilter, _start: Latest, _now: float) -> Slices[Cursor]:
        yield from ()
        return Cursor(self._log.head, 0)

    def _earliest(self, topic_filter: TopicFilter, _start: Earliest, _now: float) -> Slices[Cursor]:
        return Cursor(0, (yield from self.trim_mark(topic_filter)).seq)

    def _after(self, topic_filter: TopicFilter, start: After, _now: float) -> Slices[Cursor]:
        known = self._log.epochs.knows(start.id)
        if known and start.id.seq <= self._log.head:
            return Cursor(start.id.seq, 0)
        reason = GapReason.AHEAD if known else GapReason.EPOCH
        return Cursor(0, (yield from self.trim_mark(topic_filter)).seq, str(start.id), reason)

    def _since(self, topic_filter: TopicFilter, start: Since, _now: float) -> Slices[Cursor]:
        place = self._log.messages.position_before(start.time, self._log.head, own=False)
        loss = yield from self.trim_mark(topic_filter)
        return self._from(start.time, place, loss, loss.time >= start.time)

    def _ago(self, topic_filter: TopicFilter, start: Ago, now: float) -> Slices[Cursor]:
        begin, ahead = now - start.seconds, self._log.ahead
        place = self._log.messages.position_before(begin, self._log.head, own=True)
        loss = yield from self.trim_mark(topic_filter)
        return self._from(begin + ahead, place, loss, (loss.at or loss.time) >= begin)

    @staticmethod
    def _from(time: float, place: int, loss: TrimMark, lost: bool) -> Cursor:
        gone = loss.seq > 0 and lost
        return Cursor(place, loss.seq, *((rfc3339(time), GapReason.TRIMMED) if gone else ()))

    def _last(self, topic_filter: TopicFilter, start: Last, _now: float) -> Slices[Cursor]:
        """Nothing is looked at but what is selected, and no more of it than is asked for."""
        head, count = self._log.head, start.count
        topics = yield from self._selected(topic_filter)
        place = 0
        if sum([topic.for_all for topic in topics]) > count:
            place = yield from self._behind(topics, topic_filter, count)
        elif not any(topic.for_all for topic in topics):
            place = head
        return Cursor(place, (yield from self.trim_mark(topic_filter)).seq)

    def _selected(self, topic_filter: TopicFilter) -> Slices[list[TopicLog]]:
        topics = self._log.topics
        found = [topics[name] for name in topic_filter.topics if name in topics]
        if topic_filter.patterns:
            for part in sliced([*topics.values()], topic_filter.effort):
                found += [topic for topic in part if topic_filter.matches(topic.name)]
                yield
        return [*dict.fromkeys(found)]

    def _behind(self, topics: list[TopicLog], topic_filter: TopicFilter, count: int) -> Slices[int]:
        """The place behind which these topics have so many messages that are for all."""
        place, looked = self._log.head, 0
        runs = self._log.messages.newest() if topic_filter.everything else (yield from _newest(topics))
        for run in runs:
            looked += 1
            if looked % SLICE == 0:
                yield
            if not run.for_all:
                continue
            if count <= run.live:
                newest = islice(run.newest(), count)
                return min([place, *(message.seq - 1 for message in newest)])
            count -= run.live
            place = run.first - 1
        return place

    def _after_index(self, topic_filter: TopicFilter, start: AfterIndex, _now: float) -> Slices[Cursor]:
        """By bisection: in a topic, the index rises with seq."""
        (name,) = topic_filter.topics
        low, high = 0, self._log.head  # what is wanted begins behind the one, and at the latest behind the other
        while name in self._log.topics and low < high:
            middle = (low + high) // 2
            run = next(self._log.topics[name].messages.after(middle), None)
            if run is None or run.index > start.index:
                high = middle
            else:
                low = run.seq
        if run := next(self._log.topics[name].messages.after(low), None) if name in self._log.topics else None:
            low = next((message.seq - 1 for message in run.messages if message.index > start.index), low)
        return Cursor(low, (yield from self.trim_mark(topic_filter)).seq)


def _newest(topics: list[TopicLog]) -> Slices[Iterator[Run]]:
    """The runs of these topics, newest first."""
    heads: list[tuple[int, Run, Iterator[Run]]] = []
    for part in sliced(topics, RUN_EFFORT):
        for topic in part:
            runs = topic.messages.newest()
            if run := next(runs, None):
                heads.append((-run.seq, run, runs))
        yield
    heapify(heads)
    return _merged(heads)


def _merged(heads: list[tuple[int, Run, Iterator[Run]]]) -> Iterator[Run]:
    """`heads`: a heap of the newest run of each topic, by its seq, which no other has, and those that follow it."""
    while heads:
        _, run, runs = heads[0]
        yield run
        if following := next(runs, None):
            heapreplace(heads, (-following.seq, following, runs))
        else:
            heappop(heads)


_LOCATE: dict[type[Start], Callable[[Reading, TopicFilter, Any, float], Slices[Cursor]]] = {
    Latest: Reading._latest,
    Earliest: Reading._earliest,
    After: Reading._after,
    Since: Reading._since,
    Ago: Reading._ago,
    Last: Reading._last,
    AfterIndex: Reading._after_index,
}
