"""The log: every accepted message in one order, kept per topic as long as its retention says, read from any cursor.

Plain data and functions of the time they are given: no I/O, no tasks, no clock. An engine holds one. What is due (an
age, a ttl, an idle topic) is done when somebody asks next, never by a task of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any, Final

import msgspec

from .deadlines import Deadlines
from .epochs import Epochs
from .errors import LogFull, MessageTooLarge, NotFound, TopicLimit
from .group import JOB_COST, Group
from .history import History
from .holds import Holds
from .message import Delivery, Draft, Message, rfc3339
from .notes import Changed, Notes, forget
from .position import After, AfterIndex, Ago, Cursor, Earliest, Gap, GapReason, Last, Latest, Since, Start
from .topic import Selector
from .topiclog import TOPIC_COST, Limits, Loss, TopicLog, TopicNote, TopicState, cost

SWEEP: Final = 1_000  # expired messages that one call gives up
SCAN: Final = 10_000  # messages a pattern's reader looks at in one page: some milliseconds, then others get a turn
FORGOTTEN: Final = 10_000  # dropped topics whose loss is remembered by name; of older ones, only that there was some

_seq = attrgetter("seq")


class Page(msgspec.Struct, frozen=True):
    """A stretch of the log: the gap before it, if its start is gone; the selected messages; where to read on.
    `behind`: all of these had waited behind the cursor for a first subscriber, and there may be more of them."""

    messages: list[Message]
    cursor: Cursor
    gap: Gap | None = None
    behind: bool = False


class LogNote(msgspec.Struct, frozen=True):
    """What must be known of a log besides its messages and topics."""

    head: int = 0
    cost: int = 0
    forgotten_floor: Loss = msgspec.field(default_factory=Loss)


class Log:
    def __init__(self, limits: Limits, epochs: Epochs, history: History, changed: Changed = forget) -> None:
        """`changed` hears of each change that an engine may have to write down."""
        self.limits = limits
        self.epochs = epochs
        self.epoch = epochs.current
        self.head = 0  # seq of the newest message
        self.cost = 0  # bytes of memory, all kept messages and topics
        self.topics: dict[str, TopicLog] = {}
        self.bereaved: dict[str, None] = {}  # topics whose groups lost a message to its ttl: somebody has to look
        self.frozen = False  # nothing may change, not even what is due
        self._history = history
        self._order = history.order
        self._changed = changed
        self._expiries: Deadlines[int] = Deadlines()  # of messages with a ttl
        self._revisits: Deadlines[str] = Deadlines()  # of topics: their oldest message's age, or their idleness
        self._waiting: set[str] = set()  # topics with something in `waiting`
        self._lost = 0  # the greatest loss.seq there is: most questions about a gap end here
        self._forgotten: dict[str, Loss] = {}  # of dropped topics
        self._forgotten_floor = Loss()  # the greatest of those no longer in there

    def restore(self, notes: Notes, waiting: Iterable[tuple[str, int]], expiries: Iterable[tuple[int, float]]) -> None:
        """Take up where another log left off. `waiting`: topics and seqs of what was kept for one subscriber;
        `expiries`: seqs of what has a ttl, and its end."""
        head: LogNote = notes["log"].get((), LogNote())
        self.head, self.cost, self._forgotten_floor = head.head, head.cost, head.forgotten_floor
        self._forgotten = {str(name): loss for (name,), loss in notes["forgotten"].items()}
        for (name,), note in notes["topic"].items():
            self.topics[str(name)] = TopicLog.restore(
                str(name), note, self.limits.retention, self._history.ring(str(name))
            )
        for topic, seq in waiting:
            self.topics[topic].waiting[seq] = None
            self._waiting.add(topic)
        for seq, expires in expiries:
            self._expiries.set(seq, expires)
        losses = [*(topic.loss for topic in self.topics.values()), *self._forgotten.values(), self._forgotten_floor]
        self._lost = max(loss.seq for loss in losses)

    def note(self) -> LogNote:
        return LogNote(self.head, self.cost, self._forgotten_floor)

    def topic_note(self, name: str) -> TopicNote | None:
        topic = self.topics.get(name)
        return topic.note() if topic else None

    def forgotten(self, name: str) -> Loss | None:
        """What is remembered of a dropped topic."""
        return self._forgotten.get(name)

    # Writing

    def reserve(self, drafts: Sequence[Draft]) -> None:
        """Hold the room that these drafts will take, until release()."""
        self.cost += sum(map(cost, drafts))

    def release(self, drafts: Sequence[Draft]) -> None:
        self.cost -= sum(map(cost, drafts))

    def accept(self, draft: Draft, now: float) -> Message:
        """Give the draft its place, after check_room() for all that come together. trim() when it was handed out."""
        topic = self._topic(draft.topic, now)
        self.head += 1
        expires = None if draft.ttl is None else now + draft.ttl
        message = Message(
            self.epoch, self.head, topic.next_index, topic.name, draft.data, draft.content_type, draft.event, now,
            draft.delivery, expires, draft.line, draft.retain, draft.death,
        )  # fmt: skip
        topic.loss.first = topic.loss.first or message.seq
        topic.next_index += 1
        topic.last_used = now
        self._changed("topic", (topic.name,))
        if draft.retain:
            self._keep(topic, message)
        return message

    def trim(self, name: str) -> None:
        """Hold the topic to its retention; of age, sweep() takes care."""
        if topic := self.topics.get(name):
            self._trim(topic)

    def remove(self, message: Message) -> bool:
        """Give up a message that was handed out or has expired: no loss. False when it was gone already."""
        topic = self.topics.get(message.topic)
        if topic is None or not topic.ring.remove(message):
            return False
        if topic.holds is not None and topic.holds.holds(message):
            topic.holds.lose(message)
            self.bereaved[topic.name] = None
            for name in topic.holds.groups:
                self._changed("job", (topic.name, name, message.seq))
            self.unhold(topic, message)
        self._order.remove(message)
        self._changed("topic", (topic.name,))
        topic.bytes -= len(message.data)
        self.cost -= cost(message)
        if message.expires is not None:
            self._expiries.discard(message.seq)
        if message.delivery is Delivery.ONE:
            topic.waiting.pop(message.seq, None)
            if not topic.waiting:
                self._waiting.discard(topic.name)
        if not topic.ring.live:
            self._watch(topic)
        return True

    def make(self, name: str, now: float) -> TopicLog:
        """The topic; there is one of that name from now on. Raises TopicLimit."""
        self._check_topics(name)
        return self._topic(name, now)

    def configure(self, name: str, changes: Mapping[str, float], now: float) -> None:
        """Change fields of the topic's Retention; the topic is made if there is none. Raises TopicLimit."""
        topic = self.make(name, now)
        topic.retention = msgspec.structs.replace(topic.retention, **changes)
        topic.pinned = True
        self._changed("topic", (name,))
        self._trim_old(topic, now)
        self._trim(topic)
        self._watch(topic)

    def drop(self, name: str) -> None:
        """Forget a topic and its messages; whoever resumes there is told of the loss. Raises NotFound."""
        topic = self.existing(name)
        self.regroup(topic, {})
        for message in topic.ring:
            self._lose(topic, message)
        self._forget(topic)

    def watch_all(self) -> None:
        """After restore(), and when the groups have been restored too: know again what is due when."""
        for topic in self.topics.values():
            self._watch(topic)

    def sweep(self, now: float) -> None:
        """Do what is due: expire messages, trim by age, forget idle topics. Costs what it frees, and at most SWEEP
        messages at once: readers pass over what has expired anyway."""
        if not self.frozen and (self._expiries.may_be_due(now) or self._revisits.may_be_due(now)):
            for seq in islice(self._expiries.due(now), SWEEP):
                if message := self._order.get(seq):
                    self.remove(message)
            for name in self._revisits.due(now):
                self._revisit(self.topics[name], now)

    def _keep(self, topic: TopicLog, message: Message) -> None:
        topic.ring.append(message)
        self._order.append(message)
        topic.bytes += len(message.data)
        self.cost += cost(message)
        if message.expires is not None:
            self._expiries.set(message.seq, message.expires)
        if message.delivery is Delivery.ONE:
            topic.waiting[message.seq] = None
            self._waiting.add(topic.name)
        if topic.holds is not None and message.delivery is Delivery.ALL:
            topic.holds.add(message)
            self.cost += JOB_COST * len(topic.holds.groups)
        if topic.ring.live == 1 or (topic.holds is not None and message.delivery is Delivery.ONE):
            self._watch(topic)

    # What groups have not done stays

    def regroup(self, topic: TopicLog, groups: dict[str, Group]) -> None:
        """Give the topic these groups in place of those it has. Raises LogFull."""
        holds = Holds(groups)
        holds.recount(topic.ring)
        cost = holds.count * len(groups) * JOB_COST
        if topic.holds is not None:
            cost -= topic.holds.count * len(topic.holds.groups) * JOB_COST
        if cost > 0 and self.cost + cost > self.limits.total_bytes:
            raise LogFull(f"a group on {topic.name!r} would take {cost} bytes, more than max_total_bytes leaves")
        self.cost += cost
        topic.holds = holds if groups else None
        self._changed("topic", (topic.name,))
        self._watch(topic)

    def unhold(self, topic: TopicLog, message: Message) -> None:
        """No group needs the message any more: retention may take it."""
        assert topic.holds is not None
        topic.holds.remove(message)
        self._changed("topic", (topic.name,))
        self.cost -= JOB_COST * len(topic.holds.groups)

    def settled(self, topic: TopicLog, seq: int) -> None:
        """A group is done with the message."""
        message = topic.ring.get(seq)
        if message is not None and topic.holds is not None and not topic.holds.holds(message):
            self.unhold(topic, message)
            self._trim(topic)
            self._watch(topic)

    def check_room(self, drafts: Sequence[Draft], now: float) -> None:
        """Raises TopicLimit, LogFull or MessageTooLarge when these drafts cannot be accepted."""
        self.sweep(now)
        name = drafts[0].topic
        self._check_topics(name)
        topic = self.topics.get(name)
        retention = topic.retention if topic else self.limits.retention
        coming = [draft for draft in drafts if draft.retain]
        kept = coming[-retention.max_messages :]
        for draft in kept:
            if len(draft.data) > retention.max_bytes:
                raise MessageTooLarge(
                    f"the message has {len(draft.data)} bytes; topic {name!r} keeps at most {retention.max_bytes}"
                )
        if topic is not None and topic.holds is not None:
            self._check_held(topic, topic.holds, coming)
        room = sum([cost(draft) for draft in kept])
        if topic is None:
            room += TOPIC_COST
        elif topic.holds is not None:
            room += len(kept) * len(topic.holds.groups) * JOB_COST
        need = self.cost + room - self.limits.total_bytes
        if need > 0 and (topic is None or self._reclaimable(topic, kept) < need):
            raise LogFull(
                f"the log takes {self.cost} of {self.limits.total_bytes} bytes and the retention of {name!r} frees too "
                f"little: shorten a retention, delete a topic or raise max_total_bytes"
            )

    @staticmethod
    def _check_held(topic: TopicLog, holds: Holds, kept: Sequence[Draft]) -> None:
        retention = topic.retention
        octets = holds.bytes + sum(len(draft.data) for draft in kept)
        if kept and (holds.count + len(kept) > retention.max_messages or octets > retention.max_bytes):
            raise LogFull(
                f"the groups of topic {topic.name!r} have not acked {holds.count} messages ({holds.bytes} bytes); "
                f"it keeps at most {retention.max_messages} ({retention.max_bytes} bytes): "
                f"wait for the workers, raise its retention or delete a group"
            )

    def existing(self, name: str) -> TopicLog:
        """Raises NotFound."""
        topic = self.topics.get(name)
        if topic is None:
            raise NotFound(f"there is no topic {name!r}")
        return topic

    def _check_topics(self, name: str) -> None:
        if name not in self.topics and len(self.topics) >= self.limits.topics:
            raise TopicLimit(f"there are {len(self.topics)} topics, as many as this server keeps; {name!r} is one more")

    @staticmethod
    def _reclaimable(topic: TopicLog, coming: Sequence[Draft]) -> int:
        """Bytes of memory that the topic's own retention would free if those messages came."""
        messages = topic.ring.live + len(coming) - topic.retention.max_messages
        octets = topic.bytes + sum(len(draft.data) for draft in coming) - topic.retention.max_bytes
        freed = 0
        for message in topic.ring:
            if messages <= 0 and octets <= 0:
                break
            if topic.holds is not None and topic.holds.holds(message):
                continue
            messages -= 1
            octets -= len(message.data)
            freed += cost(message)
        return freed

    def _trim(self, topic: TopicLog) -> None:
        """Give up what is too much."""
        ring, most, octets = topic.ring, topic.retention.max_messages, topic.retention.max_bytes
        if ring.live > most or topic.bytes > octets:
            for message in topic.free():
                self._lose(topic, message)
                if ring.live <= most and topic.bytes <= octets:
                    break

    def _trim_old(self, topic: TopicLog, now: float) -> None:
        """Give up what is too old."""
        horizon = now - topic.retention.max_age
        for message in topic.free():
            if message.time > horizon:
                break
            self._lose(topic, message)

    def _lose(self, topic: TopicLog, message: Message) -> None:
        self.remove(message)
        loss = topic.loss
        loss.count += 1
        if message.seq > loss.seq:
            loss.seq, loss.time = message.seq, message.time
        self._lost = max(self._lost, message.seq)

    def _topic(self, name: str, now: float) -> TopicLog:
        topic = self.topics.get(name)
        if topic is None:
            loss = self._forgotten.pop(name, None) or msgspec.structs.replace(self._forgotten_floor)
            topic = self.topics[name] = TopicLog(name, self.limits.retention, loss, self._history.ring(name))
            self._changed("forgotten", (name,))
            self._changed("topic", (name,))
            topic.last_used = now
            self.cost += TOPIC_COST
            self._watch(topic)
        return topic

    def _watch(self, topic: TopicLog) -> None:
        if oldest := next(topic.free(), None):
            self._revisits.set(topic.name, oldest.time + topic.retention.max_age)
        elif topic.ring.live or topic.pinned or topic.holds is not None:
            self._revisits.discard(topic.name)
        else:
            self._revisits.set(topic.name, topic.last_used + self.limits.topic_idle)

    def _revisit(self, topic: TopicLog, now: float) -> None:
        self._trim_old(topic, now)
        self._trim(topic)
        stays = topic.ring.live or topic.pinned or topic.holds is not None
        if stays or topic.last_used + self.limits.topic_idle > now:
            self._watch(topic)
        else:
            self._forget(topic)

    def _forget(self, topic: TopicLog) -> None:
        del self.topics[topic.name]
        self._changed("topic", (topic.name,))
        self._changed("forgotten", (topic.name,))
        self._revisits.discard(topic.name)
        self.cost -= TOPIC_COST
        if topic.loss.seq:
            self._forgotten[topic.name] = topic.loss
        if len(self._forgotten) > FORGOTTEN:
            name = next(iter(self._forgotten))
            oldest = self._forgotten.pop(name)
            self._changed("forgotten", (name,))
            self._forgotten_floor = max(self._forgotten_floor, Loss(oldest.seq, oldest.time, first=-1), key=_seq)

    # Reading

    def state(self, name: str, now: float) -> TopicState:
        """Raises NotFound."""
        self.sweep(now)
        return self.existing(name).state()

    def states(self, selector: Selector | None, now: float) -> list[TopicState]:
        """Every topic that is selected (None: every one), by name."""
        self.sweep(now)
        return [self.topics[name].state() for name in sorted(self.topics) if selector is None or selector.matches(name)]

    def get(self, seq: int, now: float) -> Message | None:
        self.sweep(now)
        message = self._order.get(seq)
        return None if message is None or message.expired(now) else message

    def locate(self, selector: Selector, start: Start, now: float) -> Cursor:
        """The cursor from which a reader of the selection finds what it asked for and nothing else."""
        self.sweep(now)
        return _LOCATE[type(start)](self, selector, start, now)

    def read(
        self, selector: Selector, cursor: Cursor, now: float, *, upto: int, limit: int, octets: int, take: bool
    ) -> Page:
        """The selected messages after the cursor up to place `upto`, oldest first: at most `limit`, and no more after
        `octets` bytes of bodies. A taking reader also gets, first of all, what waits for anybody to take it."""
        self.sweep(now)
        take = take and not self.frozen
        behind = self._take_behind(selector, cursor.seq, now, limit, octets) if take and self._waiting else []
        if len(behind) == limit or sum(len(message.data) for message in behind) >= octets:
            return Page(behind, cursor, behind=True)
        ahead, place = self._collect(
            selector, cursor.seq, upto=upto, limit=limit - len(behind), octets=octets, take=take
        )
        ahead = [message for message in ahead if not message.expired(now)]
        self._hand_out(ahead)
        messages = behind + ahead
        gone = cursor.reason is not None or self._lost > max(cursor.seq, cursor.told)
        loss = self.loss(selector) if gone else Loss()
        if cursor.reason is None and loss.seq <= max(cursor.seq, cursor.told):
            return Page(messages, Cursor(place, cursor.told))
        return Page(messages, Cursor(place, max(loss.seq, cursor.told)), self._gap(selector, cursor, loss, ahead))

    def loss(self, selector: Selector) -> Loss:
        """The newest loss in the selection; when it is a single topic, all of its loss."""
        losses = [self._loss_on(name) for name in selector.topics]
        if selector.patterns:
            losses += [topic.loss for topic in self.topics.values() if selector.matches(topic.name)]
            losses += [loss for name, loss in self._forgotten.items() if selector.matches(name)]
            losses.append(self._forgotten_floor)
        return max(losses, key=_seq)

    def _loss_on(self, name: str) -> Loss:
        topic = self.topics.get(name)
        return topic.loss if topic else self._forgotten.get(name, self._forgotten_floor)

    def _gap(self, selector: Selector, cursor: Cursor, loss: Loss, messages: list[Message]) -> Gap:
        whole = cursor.reason is None and cursor.told == 0 and cursor.seq < loss.first
        single = len(selector.topics) == 1 and not selector.patterns
        return Gap(
            cursor.requested or f"{self.epoch}-{cursor.seq}",
            cursor.reason or GapReason.TRIMMED,
            loss.count if whole and single else None,
            messages[0].id if messages else None,
        )

    def _collect(
        self, selector: Selector, after: int, *, upto: int, limit: int, octets: int, take: bool
    ) -> tuple[list[Message], int]:
        """The messages of a page and the place up to which the log was looked at for them."""
        messages: list[Message] = []
        place = after
        for looked, message in enumerate(self._candidates(selector, after)):
            if message.seq > upto:
                break
            if len(messages) == limit or octets <= 0 or looked == SCAN:
                return messages, place
            place = message.seq
            if (take or message.delivery is Delivery.ALL) and selector.matches(message.topic):
                messages.append(message)
                octets -= len(message.data)
        return messages, upto

    def _candidates(self, selector: Selector, after: int) -> Iterator[Message]:
        if selector.patterns:
            return self._order.after(after)
        rings = [self.topics[name].ring.after(after) for name in selector.topics if name in self.topics]
        return rings[0] if len(rings) == 1 else merge(*rings, key=_seq)

    def _take_behind(self, selector: Selector, seq: int, now: float, limit: int, octets: int) -> list[Message]:
        """Hand out what waits at or before that place: a new reader is the first subscriber it waited for."""
        topics = [self.topics[name] for name in self._waiting if name in selector.topics or selector.matches(name)]
        every = (self._order.get(seq) for seq in merge(*(topic.waiting for topic in topics)))
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
                self.remove(message)

    # Where a reader starts

    def _latest(self, _selector: Selector, _start: Latest, _now: float) -> Cursor:
        return Cursor(self.head, 0)

    def _earliest(self, selector: Selector, _start: Earliest, _now: float) -> Cursor:
        return Cursor(0, self.loss(selector).seq)

    def _after(self, selector: Selector, start: After, _now: float) -> Cursor:
        known = self.epochs.knows(start.id)
        if known and start.id.seq <= self.head:
            return Cursor(start.id.seq, 0)
        reason = GapReason.AHEAD if known else GapReason.EPOCH
        return Cursor(0, self.loss(selector).seq, str(start.id), reason)

    def _since(self, selector: Selector, start: Since, _now: float) -> Cursor:
        loss = self.loss(selector)
        gone = loss.seq > 0 and loss.time >= start.time
        place = self._order.before(start.time, self.head)
        return Cursor(place, loss.seq, *((rfc3339(start.time), GapReason.TRIMMED) if gone else ()))

    def _ago(self, selector: Selector, start: Ago, now: float) -> Cursor:
        return self._since(selector, Since(now - start.seconds), now)

    def _last(self, selector: Selector, start: Last, _now: float) -> Cursor:
        newest = self._newest(selector)
        found = [message.seq for message in islice(newest, start.count)]
        return Cursor(found[-1] - 1 if found else self.head, self.loss(selector).seq)

    def _newest(self, selector: Selector) -> Iterator[Message]:
        """The selected messages a reader would be shown, newest first."""
        if selector.patterns:
            newest = (message for message in self._order.newest() if selector.matches(message.topic))
        else:
            rings = [self.topics[name].ring.newest() for name in selector.topics if name in self.topics]
            newest = merge(*rings, key=_seq, reverse=True)
        return (message for message in newest if message.delivery is Delivery.ALL)

    def _after_index(self, selector: Selector, start: AfterIndex, _now: float) -> Cursor:
        (name,) = selector.topics
        ring = self.topics[name].ring if name in self.topics else ()
        newer = (message.seq - 1 for message in ring if message.index > start.index)
        return Cursor(next(newer, self.head), self.loss(selector).seq)


_LOCATE: dict[type[Start], Callable[[Log, Selector, Any, float], Cursor]] = {
    Latest: Log._latest,
    Earliest: Log._earliest,
    After: Log._after,
    Since: Log._since,
    Ago: Log._ago,
    Last: Log._last,
    AfterIndex: Log._after_index,
}
