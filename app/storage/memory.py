"""The log in this process's memory: as fast as it gets, and gone with the process. Every start is a new epoch."""

from asyncio import Future, TimerHandle, get_running_loop
from collections import deque
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final, Self

from ..errors import Draining
from ..log.epochs import Epochs, new_epoch
from ..log.groups.events import GroupObserver
from ..log.run import Run
from ..log.slices import Slices
from ..log.state import DEFERRED, Accepted, LogStateMachine, PartialResult
from ..log.store import MemoryMessageStore
from ..log.topic_log import Limits
from ..messages.message import PublishResult, Receipt
from ..messages.topic import TopicFilter
from ..telemetry.histogram import Histogram
from .clock import Clock, LogClock
from .engine import Deliver, attempt
from .local import LocalEngine, Question, Sliced, take_turns

LONGEST_WAIT: Final = 86_400.0  # seconds of one timer: an event loop cannot count to what a person can write


class MemoryEngine(LocalEngine):
    durability = "memory"

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.epoch = new_epoch()
        self.commits = Histogram()
        self._clock = LogClock(clock)
        self._core = LogStateMachine(limits, Epochs(self.epoch), MemoryMessageStore())
        self._slow: deque[tuple[Sliced[Any], Future[Any], bool]] = deque()
        self._timer: TimerHandle | None = None
        self._wakes_at = inf  # when the timer ends
        self._deliver: Deliver = _nobody
        self._works: GroupObserver | None = None

    async def open(self, deliver: Deliver, works: GroupObserver) -> Self:
        self._deliver, self._works = deliver, works
        return self

    async def close(self) -> None:
        self._deliver, self._works = _nobody, None
        while self._slow:
            self._slow.popleft()[1].set_exception(Draining("the log is closed"))
        if self._timer is not None:
            self._timer.cancel()

    def waits(self, topic_filter: TopicFilter) -> bool:
        waiting = self._core.log.single_delivery.unclaimed
        return bool(waiting) and (bool(topic_filter.patterns) or not waiting.isdisjoint(topic_filter.topics))

    def _ask(self, question: Question[Any], reads: bool = False) -> "Future[Any]":
        return attempt(lambda: self._answer(question, reads))

    def _ask_in_slices(self, question: Question[Slices[Any]], reads: bool = False) -> "Future[Any]":
        future: Future[Any] = get_running_loop().create_future()
        self._slow.append((Sliced(question), future, reads))
        if len(self._slow) == 1:  # nobody has to wait for the others' turns
            self._take_turns()
        return future

    def _take_turns(self) -> None:
        take_turns(self._slow, lambda one: self._step(*one))
        if self._slow:
            get_running_loop().call_soon(self._take_turns)

    def _step(self, sliced: Sliced[Any], future: "Future[Any]", reads: bool) -> bool:
        """Whether that was the last one. Who does not wait any more is not served."""
        if future.done():
            return True
        try:
            if not self._answer(sliced.step, reads):
                return False
            future.set_result(sliced.value)
        except Exception as error:
            future.set_exception(error)
        return True

    def _owe(self, question: Question[Any]) -> "Future[Any]":
        return self._ask(question)

    def _answer(self, question: Question[Any], reads: bool) -> Any:
        readers: Mapping[int, int] = {}
        try:
            answer = question(self._core, self._look())
        finally:
            if not (reads and self._core.is_idle):
                readers = self._carry_out()
        return self._told(answer, readers) if isinstance(answer, DEFERRED) else answer

    def _now(self) -> float:
        return self._clock.now()

    def _look(self) -> float:
        now = self._clock.look()
        if self._clock.ahead != self._core.log.ahead:
            self._core.log.set_time(self._clock.ahead)
        return now

    def _told(self, later: Accepted | PartialResult, readers: Mapping[int, int]) -> PublishResult:
        receipt = later.receipt(readers)
        if later.key is not None and isinstance(receipt, Receipt):
            self._core.deferred_result(receipt, later.key)
        return receipt

    def _carry_out(self) -> Mapping[int, int]:
        """What was decided happens; to how many each message (by seq) was handed."""
        outbox = self._core.take_outbox()
        readers = self._deliver(outbox.runs)
        if for_one := outbox.for_one:
            self._core.resolved(readers, for_one)
        self._core.trim()
        if self._works is not None:
            outbox.group_events.notify(self._works)
        self._wake_at_next()
        return readers

    def _wake_at_next(self) -> None:
        """One timer for all that is delayed and for all leases, at the earliest deadline."""
        due = self._core.deadline
        if due < self._wakes_at:  # a timer that is too early does no harm
            if self._timer is not None:
                self._timer.cancel()
            self._wakes_at = due
            wait = min(max(due - self._now(), 0.0), LONGEST_WAIT)
            self._timer = get_running_loop().call_later(wait, self._wake)

    def _wake(self) -> None:
        self._wakes_at = inf
        self._core.pass_time(self._look())
        self._carry_out()


def _nobody(_runs: Sequence[Run]) -> Mapping[int, int]:
    return {}
