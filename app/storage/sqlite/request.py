"""Requests to the writer: operations on the state machine, and the futures of their results."""

import sqlite3
from asyncio import Future
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from ...errors import OutcomeUnknown, PlainmqError
from ...log.accepted import DEFERRED, Accepted, PartialResult
from ...log.slices import Slices
from ...log.state import LogStateMachine
from ..turns import Operation, SlicedOperation

Kind = Literal["append", "read", "effect", "other"]
"""`effect`: it records something that has happened already. So it is never refused, but repeated until the disk stores
it."""


_UNKNOWN: Final = (
    "it is unknown whether this request was carried out. When the server is ready again, repeat it; a publish with the "
    "same Idempotency-Key"
)


class Request:
    """An operation, and the future of its result."""

    __slots__ = ("_error", "_future", "_operation", "_value", "committed", "kind", "size")

    def __init__(
        self, operation: Operation[Any], future: "Future[Any] | None" = None, kind: Kind = "other", size: int = 1
    ) -> None:
        """`size`: the number of publishes, if several are joined."""
        self.kind = kind
        self.size = size
        self.committed = False  # a transaction with it, or with slices of it, was committed
        self._operation = operation
        self._future = future
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self, core: LogStateMachine, now: float) -> None:
        try:
            self._value, self._error = self._operation(core, now), None
        except PlainmqError as error:
            self._error = error

    def fail(self, error: BaseException) -> None:
        self._error = error

    def refuse(self, failure: PlainmqError, why: str) -> None:
        """Fail because of the engine. If something of the request was committed, it is unknown whether that lasts."""
        if not self.committed or self.kind == "read":
            self._error = failure
        elif self._error is None:
            self._error = OutcomeUnknown(f"{why}; {_UNKNOWN}")

    def answer(self, receivers: Mapping[int, int]) -> Accepted | PartialResult | None:
        """Set the result. `receivers`: their number for each message, by seq. Returns what was accepted, if
        anything."""
        future, value = self._future, self._value
        if future is None or future.done():
            return None
        if self._error is not None:
            if self.kind != "effect":  # an effect is repeated
                future.set_exception(self._error)
            return None
        accepted = isinstance(value, DEFERRED)
        future.set_result(value.receipt(receivers) if accepted else value)
        return value if accepted else None


class SlicedRequest(Request):
    """A request that runs in slices."""

    __slots__ = ("_sliced",)

    def __init__(self, operation: Operation[Slices[Any]], future: "Future[Any]", kind: Kind) -> None:
        self._sliced = SlicedOperation(operation)
        super().__init__(self._sliced.step, future, kind)

    def step(self, core: LogStateMachine, now: float) -> bool:
        """Run one slice. True if it was the last."""
        try:
            self.run(core, now)
        except sqlite3.Error:
            raise
        except Exception as error:  # a bug: the other requests continue
            self._error = error
        if self._error is None and not self._value:
            return False
        self._value = None if self._error else self._sliced.value
        return True


def total_size(requests: Sequence[Request]) -> int:
    return sum([request.size for request in requests])
