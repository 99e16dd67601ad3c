"""The memory engine: the log is lost with the process. Every start begins a new epoch."""

from asyncio import Future, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Final, Self

from ..log.accepted import DEFERRED, Accepted, PartialResult
from ..log.commands.command import Command, SlicedChange
from ..log.commands.delivery import GiveBack
from ..log.commands.publishing import SetResult
from ..log.commands.tick import Tick
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
from .engine import Deliver, ignore_unclaimed
from .local import LocalEngine
from .timer import DeadlineTimer
from .turns import Operation, Turns

STEP_CHECK: Final = 1.0  # seconds: while a publish waits for a time of day, look so often whether the clock was set


class MemoryEngine(LocalEngine):
    durability = "memory"

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.epoch = new_epoch()
        self.commits = Histogram()
        self._clock = LogClock(clock)
        self._core = LogStateMachine(limits, Epochs(self.epoch), MemoryMessageStore())
        self._server_run = self.epoch
        self._turns = Turns(self._run)
        self._timer = DeadlineTimer(self._clock.now, self._on_due)
        self._deliver: Deliver = _nobody
        self._group_observer: GroupObserver | None = None
        self._offer_unclaimed: Callable[[str], None] = ignore_unclaimed

    async def open(
        self, deliver: Deliver, group_observer: GroupObserver, offer_unclaimed: Callable[[str], None] = ignore_unclaimed
    ) -> Self:
        self._deliver, self._group_observer, self._offer_unclaimed = deliver, group_observer, offer_unclaimed
        return self

    async def close(self) -> None:
        self._deliver, self._group_observer, self._offer_unclaimed = _nobody, None, ignore_unclaimed
        self._turns.close()
        self._timer.stop()

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:
        return self._core.log.single_delivery.may_have_unclaimed(topic_filter)

    def _do(self, command: Command) -> "Future[Any]":
        if isinstance(command, SlicedChange):
            return self._run_in_slices(command.carry_out, reads=False)
        return self._run_now(command.carry_out, reads=False)

    def _ask(self, question: Operation[Any]) -> "Future[Any]":
        return self._run_now(question, reads=True)

    def _ask_in_slices(self, question: Operation[Slices[Any]]) -> "Future[Any]":
        return self._run_in_slices(question, reads=True)

    def _run_now(self, operation: Operation[Any], reads: bool) -> "Future[Any]":
        future: Future[Any] = get_running_loop().create_future()
        try:
            future.set_result(self._run(operation, reads))
        except Exception as error:
            future.set_exception(error)
        return future

    def _run_in_slices(self, operation: Operation[Slices[Any]], reads: bool) -> "Future[Any]":
        future: Future[Any] = get_running_loop().create_future()
        self._turns.begin(operation, future, reads=reads)
        return future

    def _run(self, operation: Operation[Any], reads: bool) -> Any:
        receivers: Mapping[int, int] = {}
        try:
            now = self._clock.read()
            if self._clock.ahead != self._core.log.clock.ahead:
                self._core.log.clock.set(self._clock.ahead)
            if reads:
                self._core.catch_up(now)
            answer = operation(self._core, now)
        finally:
            if not (reads and self._core.is_idle):
                receivers = self._handle_outbox(now)
        return self._set_result(answer, receivers, now) if isinstance(answer, DEFERRED) else answer

    def _set_result(self, later: Accepted | PartialResult, receivers: Mapping[int, int], now: float) -> PublishResult:
        receipt = later.receipt(receivers)
        if later.idempotency_key is not None and isinstance(receipt, Receipt):
            SetResult(receipt, later.idempotency_key).carry_out(self._core, now)
        return receipt

    def _handle_outbox(self, now: float) -> Mapping[int, int]:
        """Do what was decided. Returns the number of receivers by seq."""
        outbox = self._core.take_outbox()
        receivers = self._deliver(outbox.runs)
        if outbox.for_one:
            GiveBack(outbox.undelivered(receivers)).carry_out(self._core, now)
        self._core.trim()
        if self._group_observer is not None:
            outbox.group_events.notify(self._group_observer)
        for topic in outbox.unclaimed:
            get_running_loop().call_soon(self._offer_unclaimed, topic)  # not now: it reads
        deadline = self._core.deadline
        if deadline != inf and self._core.delayed.follows_wall_clock:
            deadline = min(deadline, now + STEP_CHECK)
        if deadline < self._timer.ends:
            self._timer.set(deadline)
        return receivers

    def _on_due(self) -> None:
        self._run(Tick().carry_out, reads=False)


def _nobody(_runs: Sequence[Run]) -> dict[int, int]:
    return {}
