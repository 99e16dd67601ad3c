"""Operations in slices, which take turns: other tasks of the event loop run in between."""

from asyncio import Future, get_running_loop, sleep
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from ..errors import Draining
from ..log.slices import Slices
from ..log.state import LogStateMachine

T = TypeVar("T")

Operation = Callable[[LogStateMachine, float], T]
"""A question, or carrying out a command: what to do with the state machine at a time."""

TURN_SECONDS: Final = 0.002  # of slices, and one more; then other tasks run


async def in_turns(slices: Slices[T]) -> T:
    """Run all slices; other tasks run after each turn."""
    end = monotonic() + TURN_SECONDS
    while True:
        try:
            next(slices)
        except StopIteration as done:
            value: T = done.value
            return value
        if monotonic() >= end:
            await sleep(0)
            end = monotonic() + TURN_SECONDS


class SlicedOperation(Generic[T]):
    """An operation that runs in slices."""

    def __init__(self, operation: Operation[Slices[T]]) -> None:
        self._question = operation
        self._slices: Slices[T] | None = None
        self._core: LogStateMachine | None = None
        self.value: T

    def step(self, core: LogStateMachine, now: float) -> bool:
        """Run one slice. True once `value` is there. With another core than last time, the operation begins again.
        Raises what the operation does."""
        if self._slices is None or self._core is not core:
            self._core, self._slices = core, self._question(core, now)
        try:
            next(self._slices)
        except StopIteration as end:
            self.value = end.value
            return True
        return False


def take_turns(
    waiting: "deque[T]", step: Callable[[T], bool], is_long: Callable[[T], bool] = lambda _first: False
) -> None:
    """Run a slice of each in turn until the time is over. Those that are not done go to the end. `is_long`: one slice
    of this takes a whole turn."""
    end = monotonic() + TURN_SECONDS
    while waiting:
        first = waiting.popleft()
        if not step(first):
            waiting.append(first)
        if monotonic() >= end or is_long(first):
            break


class Turns:
    """The sliced operations of an engine that runs them in the event loop."""

    def __init__(self, run: Callable[[Operation[bool], bool], bool]) -> None:
        """`run` runs one slice of an operation, a question or not, and returns whether that was the last."""
        self._run = run
        self._sliced: deque[tuple[SlicedOperation[Any], Future[Any], bool]] = deque()

    def begin(self, operation: Operation[Slices[Any]], future: "Future[Any]", *, reads: bool) -> None:
        """The future has its result, or its error, when its last slice has run."""
        self._sliced.append((SlicedOperation(operation), future, reads))
        if len(self._sliced) == 1:  # no other one is waiting: begin at once
            self._take()

    def close(self) -> None:
        while self._sliced:
            _, future, _ = self._sliced.popleft()
            if not future.done():  # the client that asked may have left
                future.set_exception(Draining("the log is closed"))

    def _take(self) -> None:
        take_turns(self._sliced, lambda one: self._step(*one))
        if self._sliced:
            get_running_loop().call_soon(self._take)

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
