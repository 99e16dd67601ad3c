"""What a group keeps in mind from claim to claim, if its topic has messages with a priority or an order key."""

from typing import Final

import msgspec

from .ordered_keys import WAITING_COST, KeysRecord, OrderedKeys

PRECEDENCE_COST: Final = 2_560  # bytes of memory that it takes besides what waits, at most; a test measures it


class PrecedenceRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields are those of Precedence, `ready` and `searched` by ascending priority."""

    ready: dict[int, list[int]]
    searched: dict[int, int]
    overtaking: int
    keys: KeysRecord


class Precedence:
    """`ready`: heaps of the jobs that are ready again, by priority; they may contain jobs that are leased or gone.
    `searched`: by priority, a seq up to which the group has handed out every message once, or is done with it, or has
    made it a job. `overtaking`: how many messages were handed out in a row while one of a lower priority was ready."""

    __slots__ = ("keys", "overtaking", "ready", "searched")

    def __init__(self) -> None:
        self.ready: dict[int, list[int]] = {}
        self.searched: dict[int, int] = {}
        self.overtaking = 0
        self.keys = OrderedKeys()

    def record(self) -> PrecedenceRecord:
        ready = {priority: sorted(heap) for priority, heap in sorted(self.ready.items())}
        return PrecedenceRecord(ready, dict(sorted(self.searched.items())), self.overtaking, self.keys.record())

    @classmethod
    def from_record(cls, record: PrecedenceRecord) -> "Precedence":
        precedence = cls()
        precedence.ready, precedence.searched = record.ready, record.searched
        precedence.overtaking, precedence.keys = record.overtaking, OrderedKeys.from_record(record.keys)
        return precedence

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes besides the jobs."""
        return PRECEDENCE_COST + WAITING_COST * len(self.keys)

    def take_ready(self) -> list[int]:
        """Empty the heaps."""
        ready = [seq for heap in self.ready.values() for seq in heap]
        self.ready.clear()
        return ready
