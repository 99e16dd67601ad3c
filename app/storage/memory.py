"""The memory engine: the log is lost with the process. Every start begins a new epoch."""

from asyncio import Future, TimerHandle, get_running_loop
from collections import deque
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final, Self

from ..errors import Draining
from ..log.accepted import DEFERRED, Accepted, PartialResult
from ..log.epochs import Epochs, new_epoch
from ..log.groups.events import GroupObserver
from ..log.run import Run
from ..log.slices import Slices
from ..log.state import LogStateMachine
from ..log.store import MemoryMessageStore
from ..log.topic_log import Limits
from ..messages.message import PublishResult, Receipt
from ..messages.topic import TopicFilter
from ..telemetry.histogram import Histogram
from .clock import Clock, LogClock
from .engine import Deliver
from .local import LocalEngine, Operation, SlicedOperation, take_turns

MAX_TIMER: Final = 86_400.0  # seconds: event loops cannot schedule the longest delays that a client may ask for


class MemoryEngine(LocalEngine):
    durability = "memory"

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.epoch = new_epoch()
        self.commits = Histogram()
        self._clock = LogClock(clock)
        self._core = LogStateMachine(limits, Epochs(self.epoch), MemoryMessageStore())
        self._sliced: deque[tuple[SlicedOperation[Any], Future[Any], bool]] = deque()
        self._timer: TimerHandle | None = None
        self._timer_ends = inf  # when the timer fires, on the log's clock
        self._deliver: Deliver = _nobody
        self._group_observer: GroupObserver | None = None

    async def open(self, deliver: Deliver, group_observer: GroupObserver) -> Self:
        self._deliver, self._group_observer = deliver, group_observer
        return self

    async def close(self) -> None:
        self._deliver, self._group_observer = _nobody, None
        while self._sliced:
            _, future, _ = self._sliced.popleft()
            if not future.done():  # the client that asked may have left
                future.set_exception(Draining("the log is closed"))
        if self._timer is not None:
            self._timer.cancel()

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:
        waiting = self._core.log.single_delivery.unclaimed
        return bool(waiting) and (bool(topic_filter.patterns) or not waiting.isdisjoint(topic_filter.topics))

    def _ask(self, operation: Operation[Any], reads: bool = False) -> "Future[Any]":
        future: Future[Any] = get_running_loop().create_future()
        try:
            future.set_result(self._run(operation, reads))
        except Exception as error:
            future.set_exception(error)
        return future

    def _ask_in_slices(self, operation: Operation[Slices[Any]], reads: bool = False) -> "Future[Any]":
        future: Future[Any] = get_running_loop().create_future()
        self._sliced.append((SlicedOperation(operation), future, reads))
        if len(self._sliced) == 1:  # no other one is waiting: begin at once
            self._take_turns()
        return future

    def _take_turns(self) -> None:
        take_turns(self._sliced, lambda one: self._step(*one))
        if self._sliced:
            get_running_loop().call_soon(self._take_turns)

    def _step(self, sliced: SlicedOperation[Any], future: "Future[Any]", reads: bool) -> bool:
        """Run one slice. True if the operation is over, or nobody waits for it."""
        if future.done():
            return True
        try:
            if not self._run(sliced.step, reads):
                return False
            future.set_result(sliced.value)
        except Exception as error:
            future.set_exception(error)
        return True

    def _apply_eventually(self, operation: Operation[Any]) -> "Future[Any]":
        return self._ask(operation)

    def _run(self, operation: Operation[Any], reads: bool) -> Any:
        receivers: Mapping[int, int] = {}
        try:
            now = self._clock.read()
            if self._clock.ahead != self._core.log.clock.ahead:
                self._core.log.clock.set(self._clock.ahead)
            answer = operation(self._core, now)
        finally:
            if not (reads and self._core.is_idle):
                receivers = self._carry_out()
        return self._set_result(answer, receivers) if isinstance(answer, DEFERRED) else answer

    def _now(self) -> float:
        return self._clock.now()

    def _set_result(self, later: Accepted | PartialResult, receivers: Mapping[int, int]) -> PublishResult:
        receipt = later.receipt(receivers)
        if later.key is not None and isinstance(receipt, Receipt):
            self._core.deferred_result(receipt, later.key)
        return receipt

    def _carry_out(self) -> Mapping[int, int]:
        """Carry out what was decided. Returns the number of receivers by seq."""
        outbox = self._core.take_outbox()
        receivers = self._deliver(outbox.runs)
        if for_one := outbox.for_one:
            self._core.resolved(receivers, for_one)
        self._core.trim()
        if self._group_observer is not None:
            outbox.group_events.notify(self._group_observer)
        self._set_timer()
        return receivers

    def _set_timer(self) -> None:
        """Set the one timer to the earliest deadline of all leases and delays."""
        due = self._core.deadline
        if due < self._timer_ends:  # a timer that fires early does no harm
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ends = due
            wait = min(max(due - self._now(), 0.0), MAX_TIMER)
            self._timer = get_running_loop().call_later(wait, self._on_timer)

    def _on_timer(self) -> None:
        self._timer_ends = inf
        self._run(LogStateMachine.pass_time, reads=False)


def _nobody(_runs: Sequence[Run]) -> Mapping[int, int]:
    return {}
