"""Order keys: of the messages with one key, a group has one at a time in the hands of its consumers."""

from heapq import heappop, heappush
from typing import Final

import msgspec

from ...messages.ordering import MAX_PRIORITY

KEY_LOOKAHEAD: Final = 1_000  # messages that wait for their keys in a group; beyond, it takes up no new message
WAITING_COST: Final = 160  # bytes of memory that a waiting job takes besides JOB_COST

_SEQ_BITS: Final = 62
_SEQ_MASK: Final = (1 << _SEQ_BITS) - 1


class KeysRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields are those of OrderedKeys. `queues`: each place as two numbers, ascending. `waiting`: ascending."""

    holders: dict[str, int]
    queues: dict[str, list[tuple[int, int]]]
    freed: dict[int, str]
    waiting: list[int]


class OrderedKeys:
    """A job holds its key from its first lease until the group is done with it. A job whose key another one holds
    waits; it is in no other list of the group until the key is free."""

    __slots__ = ("_freed", "_holders", "_queues", "waiting")

    def __init__(self) -> None:
        self._holders: dict[str, int] = {}
        self._queues: dict[str, list[int]] = {}  # heaps by key, of _place(); they may contain jobs that are gone
        self._freed: dict[int, str] = {}  # jobs that wait no more and have not been leased yet, with their keys
        self.waiting: set[int] = set()

    def record(self) -> KeysRecord:
        queues = {key: [(one >> _SEQ_BITS, one & _SEQ_MASK) for one in sorted(q)] for key, q in self._queues.items()}
        return KeysRecord(self._holders, queues, self._freed, sorted(self.waiting))

    @classmethod
    def from_record(cls, record: KeysRecord) -> "OrderedKeys":
        keys = cls()
        keys._holders, keys._freed, keys.waiting = record.holders, record.freed, {*record.waiting}
        keys._queues = {key: [level << _SEQ_BITS | seq for level, seq in q] for key, q in record.queues.items()}
        return keys

    def __len__(self) -> int:
        """How many jobs it has in mind besides those that hold a key."""
        return len(self.waiting) + len(self._freed)

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= KEY_LOOKAHEAD

    def is_busy(self, key: str, seq: int) -> bool:
        """Whether another job holds the key."""
        return self._holders.get(key, seq) != seq

    def hold(self, key: str, seq: int) -> None:
        self._holders[key] = seq
        self._freed.pop(seq, None)

    def wait(self, key: str, seq: int, priority: int) -> None:
        """Of the jobs that wait for a key, one of a higher priority comes first, then an older one."""
        self._freed.pop(seq, None)
        self.waiting.add(seq)
        heappush(self._queues.setdefault(key, []), _place(seq, priority))

    def gone(self, key: str, seq: int) -> int | None:
        """The group is done with a job, whose key is empty if it holds none. Returns the job that waits no more."""
        self.waiting.discard(seq)
        key = self._freed.pop(seq, key)
        if not key or self._holders.get(key, seq) != seq:
            return None
        self._holders.pop(key, None)
        queue = self._queues.pop(key, [])
        while queue:
            if (freed := heappop(queue) & _SEQ_MASK) in self.waiting:
                self.waiting.remove(freed)
                self._freed[freed] = key
                if queue:
                    self._queues[key] = queue
                return freed
        return None


def _place(seq: int, priority: int) -> int:
    """One number, which takes less memory than a pair."""
    return (MAX_PRIORITY - priority) << _SEQ_BITS | seq
