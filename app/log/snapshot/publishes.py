"""Publishes in a snapshot: those that are delayed, and the answers of those that had an idempotency key."""

from collections.abc import Iterator

from ..delayed import Postponed
from ..idempotency import Remembered
from ..slices import sliced
from ..state import LogStateMachine
from .record import Record, Restored


class DelayedRecord(Record, frozen=True, array_like=True, gc=False, tag="delayed"):
    """`until`: Delayed.time_of()"""

    number: int
    publish: Postponed
    until: float | None

    @classmethod
    def all(cls, core: LogStateMachine) -> "Iterator[DelayedRecord]":
        for number in core.delayed:
            publish = core.delayed.record(number)
            assert publish is not None
            yield cls(number, publish, core.delayed.time_of(number))

    def restore(self, restored: Restored) -> None:
        restored.core.delayed.restore({(self.number,): self.publish})
        if self.until is not None:
            restored.core.delayed.postpone(self.number, self.until)


class KeysRecord(Record, frozen=True, array_like=True, gc=False, tag="keys"):
    """Topic, key and answer, oldest first."""

    answers: list[tuple[str, str, Remembered]]

    @classmethod
    def all(cls, core: LogStateMachine) -> "Iterator[KeysRecord]":
        return map(cls, sliced(core.idempotency))

    def restore(self, restored: Restored) -> None:
        for topic, key, known in self.answers:
            restored.core.idempotency.restore({(topic, key): known})
