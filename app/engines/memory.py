"""The log in this process's memory: as fast as it gets, and gone with the process. Every start is a new epoch."""

from asyncio import Future, TimerHandle, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Any, Final, Self, TypeVar

from ..delayed import Delayed
from ..duplicates import Duplicates
from ..errors import PlainmqError
from ..group import GroupState
from ..groups import Groups, Outbox
from ..lease import Action, Lease, LeaseId, Outcome
from ..log import Log, Page, new_epoch
from ..message import Delivery, Draft, Id, Message, Receipt, Scheduled
from ..position import Cursor, Start
from ..topic import Selector
from ..topiclog import Limits, TopicState
from .base import Deliver, Engine, Works, attempt, done

T = TypeVar("T")

LONGEST_WAIT: Final = 86_400.0  # seconds of one timer: an event loop cannot count to what a person can write
AGAIN: Final = 10.0  # seconds until a delayed message for which there was no room is tried again
AT_ONCE: Final = 500  # delayed publishes in one turn of the event loop: some milliseconds, then others get theirs


class MemoryEngine(Engine):
    durability = "memory"

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        """`clock` answers Unix seconds and never steps back."""
        self._clock = clock
        self._log = Log(limits, new_epoch())
        self._duplicates = Duplicates()
        self._delayed = Delayed()
        self._timer: TimerHandle | None = None
        self._wakes_at = inf  # when the timer ends
        self._groups = Groups(self._log, limits.groups)
        self._deliver: Deliver = _nobody
        self._works: Works | None = None
        self.epoch = self._log.epoch

    async def open(self, deliver: Deliver, works: Works) -> Self:
        self._deliver, self._works = deliver, works
        return self

    async def close(self) -> None:
        self._deliver, self._works = _nobody, None
        if self._timer is not None:
            self._timer.cancel()

    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        answer = attempt(lambda: self._accept(drafts, self._clock()))
        self._tell()
        return answer

    def _accept(self, drafts: Sequence[Draft], now: float) -> Receipt | Scheduled:
        topic, key, delay = drafts[0].topic, drafts[0].key, drafts[0].delay
        if key is not None and (known := self._duplicates.find(topic, key, now)):
            return known
        answer = self._store(drafts, now) if delay is None else self._schedule(drafts, now + delay, now)
        if key is not None:
            self._duplicates.remember(topic, key, answer, now)
        return answer

    def _store(self, drafts: Sequence[Draft], now: float) -> Receipt:
        self._log.check_room(drafts, now)
        handed = [self._hand_on(self._log.accept(draft, now), now) for draft in drafts]
        self._groups.published(drafts[0].topic)
        first, last = handed[0][0], handed[-1][0]
        return Receipt(first.id, first.topic, first.index, max(count for _, count in handed), last.id, len(handed))

    def _hand_on(self, message: Message, now: float) -> tuple[Message, int]:
        readers = self._deliver(message)
        if readers and message.delivery is Delivery.ONE:
            self._log.remove(message)
        self._log.trim(message.topic, now)
        return message, readers

    def _schedule(self, drafts: Sequence[Draft], due: float, now: float) -> Scheduled:
        self._log.check_room(drafts, now)
        self._delay(drafts, due)
        return Scheduled(len(drafts), due)

    def _delay(self, drafts: Sequence[Draft], due: float) -> None:
        self._log.reserve(drafts)
        self._delayed.add(drafts, due)
        self._wake_at_next()

    # Time: one timer for all that is delayed and for all leases, at the earliest deadline

    def _wake_at_next(self) -> None:
        due = min(self._delayed.next() or inf, self._groups.deadline or inf)
        if due < self._wakes_at:  # a timer that is too early does no harm
            if self._timer is not None:
                self._timer.cancel()
            self._wakes_at = due
            wait = min(max(due - self._clock(), 0.0), LONGEST_WAIT)
            self._timer = get_running_loop().call_later(wait, self._wake)

    def _wake(self) -> None:
        self._wakes_at = inf
        now = self._clock()
        self._publish_due(now)
        self._catch_up(now)
        self._follow_up(now)

    def _publish_due(self, now: float) -> None:
        for drafts in islice(self._delayed.due(now), AT_ONCE):
            self._log.release(drafts)
            try:
                self._store(drafts, now)
            except PlainmqError:  # what was accepted stays accepted: it waits until there is room
                self._delay(drafts, now + AGAIN)

    # Groups

    def _work(self, action: Callable[[float], T]) -> Future[T]:
        """Do it as of now, and what follows from it."""
        now = self._clock()
        self._catch_up(now)
        answer = attempt(lambda: action(now))
        self._follow_up(now)
        return answer

    def _catch_up(self, now: float) -> None:
        """Whatever is due by now has happened."""
        self._log.sweep(now)
        self._groups.pass_time(now)
        self._bury(now)

    def _follow_up(self, now: float) -> None:
        self._bury(now)
        self._tell()
        self._wake_at_next()

    def _bury(self, now: float) -> None:
        for dying in self._groups.dying(now):
            try:
                self._store([dying.draft], now)
            except PlainmqError:  # it never vanishes: it waits until there is room
                self._groups.postpone(dying, now + AGAIN)
            else:
                self._groups.bury(dying, now)

    def _tell(self) -> None:
        outbox = self._groups.outbox
        if self._works is not None and (outbox.ended or outbox.ready):
            self._groups.outbox = Outbox()
            for topic, group, lease in outbox.ended:
                self._works.ended(topic, group, lease)
            for topic, group in outbox.ready:
                self._works.ready(topic, group)

    def join(self, topic: str, group: str) -> Future[None]:
        return self._work(lambda now: self._groups.join(topic, group, now))

    def claim(self, topic: str, group: str, *, count: int, octets: int, seconds: float | None) -> Future[list[Lease]]:
        return self._work(
            lambda now: self._groups.claim(topic, group, count=count, octets=octets, seconds=seconds, now=now)
        )

    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None
    ) -> Future[list[Outcome]]:
        return self._work(lambda now: self._groups.settle(topic, group, action, ids, seconds=seconds, now=now))

    def group(self, topic: str, group: str) -> Future[GroupState]:
        return self._work(lambda now: self._groups.state(topic, group, now))

    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None
    ) -> Future[None]:
        return self._work(lambda now: self._groups.configure(topic, group, changes, start, now))

    def drop_group(self, topic: str, group: str) -> Future[None]:
        return self._work(lambda now: self._groups.drop(topic, group, now))

    # Reading

    def locate(self, selector: Selector, start: Start) -> Future[Cursor]:
        return done(self._log.locate(selector, start, self._clock()))

    def read(
        self, selector: Selector, cursor: Cursor, *, upto: int, limit: int, octets: int, take: bool
    ) -> Future[Page]:
        now = self._clock()
        return done(self._log.read(selector, cursor, now, upto=upto, limit=limit, octets=octets, take=take))

    def get(self, id: Id) -> Future[Message | None]:
        return done(self._log.get(id.seq, self._clock()) if id.epoch == self.epoch else None)

    def topics(self, selector: Selector | None) -> Future[list[TopicState]]:
        return done(self._log.states(selector, self._clock()))

    def topic(self, name: str) -> Future[TopicState]:
        return attempt(lambda: self._log.state(name, self._clock()))

    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        return attempt(lambda: self._log.configure(name, changes, self._clock()))

    def drop(self, name: str) -> Future[None]:
        return self._work(lambda _now: self._drop(name))

    def _drop(self, name: str) -> None:
        self._groups.drop_all(name)
        self._log.drop(name)


def _nobody(_message: Message) -> int:
    return 0
