"""The messages after a group's cursor that the group is done with, and does not hand out."""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final


class SettledAhead:
    """Seqs, in the order in which they came. Those that the cursor has passed are taken out in ascending order."""

    __slots__ = ("_heap", "_seqs")

    def __init__(self) -> None:
        self._seqs: dict[int, None] = {}  # not a set, whose order depends on what it had before
        self._heap: list[int] = []  # it may contain some that were discarded

    def __len__(self) -> int:
        return len(self._seqs)

    def __contains__(self, seq: int) -> bool:
        return seq in self._seqs

    def __iter__(self) -> Iterator[int]:
        return iter(self._seqs)

    def with_one(self, seq: int) -> "SettledAhead":
        """This, or a new one in place of NONE_AHEAD, with one more."""
        own = SettledAhead() if self is NONE_AHEAD else self
        if seq not in own._seqs:
            own._seqs[seq] = None
            heappush(own._heap, seq)
        return own

    def discard(self, seq: int) -> None:
        self._seqs.pop(seq, None)

    def take_passed(self, cursor: int) -> Iterator[int]:
        """Remove those up to the cursor, one by one."""
        while self._heap and self._heap[0] <= cursor:
            seq = heappop(self._heap)
            if seq in self._seqs:
                del self._seqs[seq]
                yield seq


NONE_AHEAD: Final = SettledAhead()
"""For groups that have none, as most: it is never changed."""
