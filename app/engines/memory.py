"""The log in this process's memory: as fast as it gets, and gone with the process. Every start is a new epoch."""

from asyncio import Future, TimerHandle, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, Self

from ..delayed import Delayed
from ..duplicates import Duplicates
from ..errors import PlainmqError
from ..log import Log, Page, new_epoch
from ..message import Delivery, Draft, Id, Message, Receipt, Scheduled
from ..position import Cursor, Start
from ..topic import Selector
from ..topiclog import Limits, TopicState
from .base import Deliver, Engine, attempt, done

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
        self._deliver: Deliver = _nobody
        self.epoch = self._log.epoch

    async def open(self, deliver: Deliver) -> Self:
        self._deliver = deliver
        return self

    async def close(self) -> None:
        self._deliver = _nobody
        if self._timer is not None:
            self._timer.cancel()

    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        return attempt(lambda: self._accept(drafts, self._clock()))

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

    def _wake_at_next(self) -> None:
        """One timer for all that is delayed, at the earliest deadline."""
        if self._timer is not None:
            self._timer.cancel()
        if (due := self._delayed.next()) is not None:
            wait = min(max(due - self._clock(), 0.0), LONGEST_WAIT)
            self._timer = get_running_loop().call_later(wait, self._publish_due)

    def _publish_due(self) -> None:
        now = self._clock()
        for drafts in islice(self._delayed.due(now), AT_ONCE):
            self._log.release(drafts)
            try:
                self._store(drafts, now)
            except PlainmqError:  # what was accepted stays accepted: it waits until there is room
                self._delay(drafts, now + AGAIN)
        self._wake_at_next()

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
        return attempt(lambda: self._log.drop(name))


def _nobody(_message: Message) -> int:
    return 0
