"""Order by key: of the messages with one key, a group has one at a time in the hands of its consumers."""

from heapq import heappop, heappush
from typing import Final

KEY_LOOKAHEAD: Final = 1_000  # messages that wait for their keys in a group; beyond, it takes up no new message
WAITING_COST: Final = 160  # bytes of memory that a waiting job takes besides JOB_COST


class OrderedKeys:
    """A job holds its key from its first lease until the group is done with it. A job whose key another one holds
    waits; it is in no other list of the group until the key is free."""

    __slots__ = ("_holders", "_queues", "waiting")

    def __init__(self) -> None:
        self._holders: dict[str, int] = {}
        self._queues: dict[str, list[int]] = {}  # heaps, by key; they may contain jobs that are gone
        self.waiting: set[int] = set()

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= KEY_LOOKAHEAD

    def is_busy(self, key: str, seq: int) -> bool:
        """Whether another job holds the key."""
        return self._holders.get(key, seq) != seq

    def hold(self, key: str, seq: int) -> None:
        self._holders[key] = seq

    def wait(self, key: str, seq: int) -> None:
        self.waiting.add(seq)
        heappush(self._queues.setdefault(key, []), seq)

    def gone(self, key: str, seq: int) -> int | None:
        """The group is done with a job, whose key is empty if it holds none. Returns the job that waits no more."""
        self.waiting.discard(seq)
        if self._holders.get(key) != seq:
            return None
        del self._holders[key]
        queue = self._queues.pop(key, [])
        while queue:
            if (freed := heappop(queue)) in self.waiting:
                self.waiting.remove(freed)
                if queue:
                    self._queues[key] = queue
                return freed
        return None
