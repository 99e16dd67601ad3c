"""Reading the log: where a reader starts, what follows, and what it has missed.

Like the log, plain functions of the time they are given. Who takes what is for one thereby has it: the log gives it up.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

import msgspec

from ..message import Delivery, Message, rfc3339
from ..position import After, AfterIndex, Ago, Cursor, Earliest, Gap, GapReason, Last, Latest, Since, Start
from ..topic import Selector
from .log import Log
from .losses import Loss
from .run import Run

SCAN: Final = 10_000  # messages a pattern's reader looks at in one page: some milliseconds, then others get a turn

_seq = attrgetter("seq")


class Page(msgspec.Struct, frozen=True):
    """A stretch of the log: the gap before it, if its start is gone; the selected messages; where to read on.
    `behind`: all of these had waited behind the cursor for a first subscriber, and there may be more of them."""

    messages: list[Message]
    cursor: Cursor
    gap: Gap | None = None
    behind: bool = False


class Reading:
    def __init__(self, log: Log) -> None:
        self._log = log

    def locate(self, selector: Selector, start: Start, now: float) -> Cursor:
        """The cursor from which a reader of the selection finds what it asked for and nothing else."""
        self._log.sweep(now)
        return _LOCATE[type(start)](self, selector, start, now)

    def read(
        self, selector: Selector, cursor: Cursor, now: float, *, upto: int, limit: int, octets: int, take: bool
    ) -> Page:
        """The selected messages after the cursor up to place `upto`, oldest first: at most `limit`, and no more after
        `octets` bytes of bodies. A taking reader also gets, first of all, what waits for anybody to take it."""
        self._log.sweep(now)
        take = take and not self._log.frozen
        behind = self._take_behind(selector, cursor.seq, now, limit, octets) if take and self._log.waiting else []
        if len(behind) == limit or sum(len(message.data) for message in behind) >= octets:
            return Page(behind, cursor, behind=True)
        ahead, place = self._collect(
            selector, cursor.seq, upto=upto, limit=limit - len(behind), octets=octets, take=take
        )
        ahead = [message for message in ahead if not message.expired(now)]
        self._hand_out(ahead)
        messages = behind + ahead
        gone = cursor.reason is not None or self._log.losses.newest > max(cursor.seq, cursor.told)
        loss = self.loss(selector) if gone else Loss()
        if cursor.reason is None and loss.seq <= max(cursor.seq, cursor.told):
            return Page(messages, Cursor(place, cursor.told))
        return Page(messages, Cursor(place, max(loss.seq, cursor.told)), self._gap(selector, cursor, loss, ahead))

    def loss(self, selector: Selector) -> Loss:
        """The newest loss in the selection; when it is a single topic, all of its loss."""
        topics, losses = self._log.topics, self._log.losses
        found = [topics[name].loss if name in topics else losses.of(name) for name in selector.topics]
        if selector.patterns:
            found += [topic.loss for topic in topics.values() if selector.matches(topic.name)]
            found += losses.among(selector)
        return max(found, key=_seq)

    def _gap(self, selector: Selector, cursor: Cursor, loss: Loss, messages: list[Message]) -> Gap:
        whole = cursor.reason is None and cursor.told == 0 and cursor.seq < loss.first
        single = len(selector.topics) == 1 and not selector.patterns
        return Gap(
            cursor.requested or f"{self._log.epochs.of(cursor.seq)}-{cursor.seq}",
            cursor.reason or GapReason.TRIMMED,
            loss.count if whole and single else None,
            messages[0].id if messages else None,
        )

    def _collect(
        self, selector: Selector, after: int, *, upto: int, limit: int, octets: int, take: bool
    ) -> tuple[list[Message], int]:
        """The messages of a page and the place up to which the log was looked at for them."""
        messages: list[Message] = []
        place, looked = after, 0
        for run in self._candidates(selector, after):
            if run.first > upto:
                break
            if len(messages) == limit or octets <= 0 or looked >= SCAN:
                return messages, place
            looked += run.live
            place = min(run.seq, upto)
            if not (take or run.for_all) or not selector.matches(run.envelope.topic):
                continue
            for message in run.after(after):
                if message.seq > upto:
                    break
                if len(messages) == limit or octets <= 0:
                    return messages, messages[-1].seq
                messages.append(message)
                octets -= len(message.data)
        return messages, upto

    def _candidates(self, selector: Selector, after: int) -> Iterator[Run]:
        if selector.patterns:
            return self._log.order.after(after)
        rings = [self._log.topics[name].ring.after(after) for name in selector.topics if name in self._log.topics]
        return rings[0] if len(rings) == 1 else merge(*rings, key=_seq)

    def _take_behind(self, selector: Selector, seq: int, now: float, limit: int, octets: int) -> list[Message]:
        """Hand out what waits at or before that place: a new reader is the first subscriber it waited for."""
        topics = [
            self._log.topics[name] for name in self._log.waiting if name in selector.topics or selector.matches(name)
        ]
        every = (self._log.order.get(seq) for seq in merge(*(topic.waiting for topic in topics)))
        waiting = (message for message in every if message is not None and not message.expired(now))
        taken: list[Message] = []
        for message in islice(waiting, limit):
            if message.seq > seq or octets <= 0:
                break
            taken.append(message)
            octets -= len(message.data)
        self._hand_out(taken)
        return taken

    def _hand_out(self, messages: list[Message]) -> None:
        for message in messages:
            if message.delivery is Delivery.ONE:
                self._log.remove(message)

    # Where a reader starts

    def _latest(self, _selector: Selector, _start: Latest, _now: float) -> Cursor:
        return Cursor(self._log.head, 0)

    def _earliest(self, selector: Selector, _start: Earliest, _now: float) -> Cursor:
        return Cursor(0, self.loss(selector).seq)

    def _after(self, selector: Selector, start: After, _now: float) -> Cursor:
        known = self._log.epochs.knows(start.id)
        if known and start.id.seq <= self._log.head:
            return Cursor(start.id.seq, 0)
        reason = GapReason.AHEAD if known else GapReason.EPOCH
        return Cursor(0, self.loss(selector).seq, str(start.id), reason)

    def _since(self, selector: Selector, start: Since, _now: float) -> Cursor:
        loss = self.loss(selector)
        gone = loss.seq > 0 and loss.time >= start.time
        place = self._log.order.before(start.time, self._log.head)
        return Cursor(place, loss.seq, *((rfc3339(start.time), GapReason.TRIMMED) if gone else ()))

    def _ago(self, selector: Selector, start: Ago, now: float) -> Cursor:
        return self._since(selector, Since(now - start.seconds), now)

    def _last(self, selector: Selector, start: Last, _now: float) -> Cursor:
        newest = self._newest(selector)
        found = [message.seq for message in islice(newest, start.count)]
        return Cursor(found[-1] - 1 if found else self._log.head, self.loss(selector).seq)

    def _newest(self, selector: Selector) -> Iterator[Message]:
        """The selected messages a reader would be shown, newest first."""
        if selector.patterns:
            newest = (run for run in self._log.order.newest() if selector.matches(run.envelope.topic))
        else:
            rings = [self._log.topics[name].ring.newest() for name in selector.topics if name in self._log.topics]
            newest = merge(*rings, key=_seq, reverse=True)
        return chain.from_iterable(run.newest() for run in newest if run.for_all)

    def _after_index(self, selector: Selector, start: AfterIndex, _now: float) -> Cursor:
        (name,) = selector.topics
        runs = self._log.topics[name].ring.after(0) if name in self._log.topics else ()
        newer = chain.from_iterable(run.messages for run in runs if run.index > start.index)
        place = next((message.seq - 1 for message in newer if message.index > start.index), self._log.head)
        return Cursor(place, self.loss(selector).seq)


_LOCATE: dict[type[Start], Callable[[Reading, Selector, Any, float], Cursor]] = {
    Latest: Reading._latest,
    Earliest: Reading._earliest,
    After: Reading._after,
    Since: Reading._since,
    Ago: Reading._ago,
    Last: Reading._last,
    AfterIndex: Reading._after_index,
}
