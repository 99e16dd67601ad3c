"""Reading the log: where a subscriber starts, the messages that follow, and what it has missed.

Pure functions of the log and of the time they are given: nothing here changes the log.
"""

from collections.abc import Callable, Iterator, Set
from heapq import heapify, heappop, heapreplace, merge
from itertools import islice
from operator import attrgetter
from typing import Any, Final

import msgspec

from ..errors import OptionInvalid
from ..messages.message import ONE, Id, Message, rfc3339
from ..messages.position import After, AfterIndex, Ago, Cursor, Earliest, Gap, GapReason, Last, Latest, Since, Start
from ..messages.topic import TopicFilter
from .log import Log
from .run import Run
from .slices import SLICE, Slices, sliced
from .topic_log import TopicLog
from .trims import TrimMark

SCAN_BATCH: Final = 500  # runs that one page examines: a few milliseconds, then other work gets its turn
RUN_EFFORT: Final = 16  # as many items as finding a topic's first run counts: it may be in a file

_seq = attrgetter("seq")


class Page(msgspec.Struct, frozen=True):
    """The messages of a part of the log, the cursor to continue from, and the gap before them if some are gone. Those
    for one subscriber are unclaimed: the reader gets them if it takes them now. `behind`: all of the messages were
    unclaimed ones from before the cursor, and there may be more of these."""

    messages: list[Message]
    cursor: Cursor
    gap: Gap | None = None
    behind: bool = False

    @property
    def for_one(self) -> list[tuple[str, int]]:
        """The messages for one subscriber, each by topic and seq."""
        return [(message.topic, message.seq) for message in self.messages if message.delivery is ONE]

    def without_others(self, taken: Set[int]) -> "Page":
        """Without the messages for one subscriber that were not `taken`."""
        there = [message for message in self.messages if message.delivery is not ONE or message.seq in taken]
        return msgspec.structs.replace(self, messages=there)


def check_position(written: str, cursor: Cursor) -> None:
    """`cursor`: where a position lies, `written` as the client wrote it. Raises OptionInvalid if that is not in this
    log."""
    if cursor.reason in {GapReason.EPOCH, GapReason.AHEAD}:
        raise OptionInvalid(f"{written!r} is not a position in this log: it is of another epoch, or ahead of it")


class Reading:
    def __init__(self, log: Log) -> None:
        self._log = log

    def knows(self, topic_filter: TopicFilter, start: Start) -> bool:
        """False if the start is behind a message that is not of this log, or not yet."""
        if isinstance(start, AfterIndex):
            (name,) = topic_filter.topics
            topic = self._log.topics.get(name)
            return start.index < (0 if topic is None else topic.next_index)
        return not isinstance(start, After) or self.knows_id(start.id)

    def knows_id(self, id: Id) -> bool:
        return self._log.epochs.knows(id) and id.seq <= self._log.head

    def locate(self, topic_filter: TopicFilter, start: Start, now: float) -> Slices[Cursor]:
        """The cursor from which a subscriber with this filter gets exactly the messages it asked for."""
        return (yield from _LOCATE[type(start)](self, topic_filter, start, now))

    def read(
        self, topic_filter: TopicFilter, cursor: Cursor, now: float, *, limit: int, nbytes: int, take: bool
    ) -> Slices[Page]:
        """The matching messages after the cursor, oldest first: at most `limit`, and no more once their bodies have
        `nbytes` bytes. With `take`, also unclaimed messages for one subscriber, those from before the cursor first. No
        slice may follow before they are taken: a question that starts over would not find them again."""
        unclaimed = take and self._log.single_delivery.unclaimed
        behind = self._unclaimed(topic_filter, cursor.seq, now, limit, nbytes) if unclaimed else []
        if len(behind) == limit or sum(len(message.data) for message in behind) >= nbytes:
            return Page(behind, cursor, behind=True)
        ahead, position = self._collect(topic_filter, cursor.seq, limit=limit - len(behind), nbytes=nbytes, take=take)
        ahead = [message for message in ahead if not message.expired(now)]
        gone = cursor.reason is not None or self._log.trim_marks.newest > max(cursor.seq, cursor.reported)
        mark = (yield from self.trim_mark(topic_filter)) if gone else TrimMark()
        messages = behind + ahead
        if cursor.reason is None and mark.seq <= max(cursor.seq, cursor.reported):
            return Page(messages, Cursor(position, cursor.reported))
        return Page(
            messages, Cursor(position, max(mark.seq, cursor.reported)), self._gap(topic_filter, cursor, mark, ahead)
        )

    def trim_mark(self, topic_filter: TopicFilter) -> Slices[TrimMark]:
        """The newest trim mark of all topics that the filter matches. A mark that changes between two slices may be
        reported too early, but is never missed."""
        topics, marks = self._log.topics, self._log.trim_marks
        found = [self._trim_mark_of(name) for name in topic_filter.topics]
        if topic_filter.patterns:
            found.append(marks.floor)
            for names in sliced([*topics, *marks.forgotten], topic_filter.effort):
                found += [self._trim_mark_of(name) for name in names if topic_filter.matches(name)]
                yield
        return max(found, key=_seq)

    def missing(self, topic: str, cursor: Cursor) -> Gap | None:
        """The gap after the cursor."""
        mark = self._trim_mark_of(topic)
        if cursor.reason is None and mark.seq <= max(cursor.seq, cursor.reported):
            return None
        runs = self._log.existing(topic).messages.after(cursor.seq)
        follows = (message for run in runs if run.for_all for message in run.after(cursor.seq))
        return self._gap(TopicFilter([topic]), cursor, mark, [*islice(follows, 1)])

    def _trim_mark_of(self, name: str) -> TrimMark:
        topic = self._log.topics.get(name)
        return self._log.trim_marks.of(name) if topic is None else topic.trim_mark

    def _gap(self, topic_filter: TopicFilter, cursor: Cursor, mark: TrimMark, messages: list[Message]) -> Gap:
        whole = cursor.reason is None and cursor.reported == 0 and cursor.seq < mark.first
        single = len(topic_filter.topics) == 1 and not topic_filter.patterns
        return Gap(
            cursor.requested or f"{self._log.epochs.of(cursor.seq)}-{cursor.seq}",
            cursor.reason or GapReason.TRIMMED,
            mark.count if whole and single else None,
            messages[0].id if messages else None,
        )

    def _collect(
        self, topic_filter: TopicFilter, after: int, *, limit: int, nbytes: int, take: bool
    ) -> tuple[list[Message], int]:
        """The messages of a page, and the seq up to which the log was searched."""
        messages: list[Message] = []
        position, examined, effort = after, 0, topic_filter.effort
        for run in self._candidates(topic_filter, after):
            if len(messages) == limit or nbytes <= 0 or examined >= SCAN_BATCH:
                return messages, position
            examined += effort
            position = run.seq
            if not (run.for_all or (take and run.for_one and self._is_unclaimed(run))) or not topic_filter.matches(
                run.envelope.topic
            ):
                continue
            for message in run.after(after):
                if len(messages) == limit or nbytes <= 0:
                    return messages, messages[-1].seq
                messages.append(message)
                nbytes -= len(message.data)
        return messages, self._log.head

    def _is_unclaimed(self, run: Run) -> bool:
        """Whether the run has a message for one subscriber, which has a run of its own, and it is unclaimed."""
        return run.for_one and self._log.topics[run.envelope.topic].for_one[run.seq]

    def _candidates(self, topic_filter: TopicFilter, after: int) -> Iterator[Run]:
        if topic_filter.patterns:
            return self._log.messages.after(after)
        rings = [
            self._log.topics[name].messages.after(after) for name in topic_filter.topics if name in self._log.topics
        ]
        return rings[0] if len(rings) == 1 else merge(*rings, key=_seq)

    def _unclaimed(self, topic_filter: TopicFilter, seq: int, now: float, limit: int, nbytes: int) -> list[Message]:
        """The unclaimed messages up to that seq."""
        topics = [
            self._log.topics[name]
            for name in self._log.single_delivery.unclaimed
            if name in topic_filter.topics or topic_filter.matches(name)
        ]
        every = (self._log.messages.get(seq) for seq in merge(*(topic.unclaimed for topic in topics)))
        waiting = (message for message in every if message is not None and not message.expired(now))
        found: list[Message] = []
        for message in islice(waiting, limit):
            if message.seq > seq or nbytes <= 0:
                break
            found.append(message)
            nbytes -= len(message.data)
        return found

    # Where a subscriber starts

    def _latest(self, _filter: TopicFilter, _start: Latest, _now: float) -> Slices[Cursor]:
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
        position = self._log.messages.position_before(start.time, self._log.head, own=False)
        mark = yield from self.trim_mark(topic_filter)
        return self._from(start.time, position, mark, mark.time >= start.time)

    def _ago(self, topic_filter: TopicFilter, start: Ago, now: float) -> Slices[Cursor]:
        begin, ahead = now - start.seconds, self._log.clock.ahead
        position = self._log.messages.position_before(begin, self._log.head, own=True)
        mark = yield from self.trim_mark(topic_filter)
        return self._from(begin + ahead, position, mark, (mark.at or mark.time) >= begin)

    @staticmethod
    def _from(time: float, position: int, mark: TrimMark, lost: bool) -> Cursor:
        gone = mark.seq > 0 and lost
        return Cursor(position, mark.seq, *((rfc3339(time), GapReason.TRIMMED) if gone else ()))

    def _last(self, topic_filter: TopicFilter, start: Last, _now: float) -> Slices[Cursor]:
        """Examines only topics that the filter matches, and no more messages than were asked for."""
        head, count = self._log.head, start.count
        topics = yield from self._selected(topic_filter)
        position = 0
        if sum([topic.for_all for topic in topics]) > count:
            position = yield from self._behind(topics, topic_filter, count)
        elif not any(topic.for_all for topic in topics):
            position = head
        return Cursor(position, (yield from self.trim_mark(topic_filter)).seq)

    def _selected(self, topic_filter: TopicFilter) -> Slices[list[TopicLog]]:
        topics = self._log.topics
        found = [topics[name] for name in topic_filter.topics if name in topics]
        if topic_filter.patterns:
            for part in sliced([*topics.values()], topic_filter.effort):
                found += [topic for topic in part if topic_filter.matches(topic.name)]
                yield
        return [*dict.fromkeys(found)]

    def _behind(self, topics: list[TopicLog], topic_filter: TopicFilter, count: int) -> Slices[int]:
        """The seq after which these topics have `count` messages for all subscribers."""
        position, examined = self._log.head, 0
        runs = self._log.messages.newest() if topic_filter.everything else (yield from _newest(topics))
        for run in runs:
            examined += 1
            if examined % SLICE == 0:
                yield
            if not run.for_all:
                continue
            if count <= run.live:
                newest = islice(run.newest(), count)
                return min([position, *(message.seq - 1 for message in newest)])
            count -= run.live
            position = run.first - 1
        return position

    def _after_index(self, topic_filter: TopicFilter, start: AfterIndex, _now: float) -> Slices[Cursor]:
        """By bisection: within a topic, a greater seq has a greater index."""
        (name,) = topic_filter.topics
        low, high = 0, self._log.head  # the result is between these two
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
    """`heads`: a heap of each topic's negated seq of its newest run, that run, and an iterator of its older runs."""
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
