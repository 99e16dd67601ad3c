"""The recent entries of a journal, as a node has read them: what a journal has lost can be given back to it."""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from .journal import Entry

RECENT_BYTES: Final = 64 << 20  # of entries that a node keeps in memory: seconds of the busiest log


class RecentEntries:
    """A part of a chain without holes, up to the newest entry that was read."""

    def __init__(self, nbytes: int = RECENT_BYTES) -> None:
        self._left = nbytes
        self._entries: deque[Entry] = deque()

    @property
    def newest(self) -> Entry | None:
        return self._entries[-1] if self._entries else None

    def add(self, entry: Entry) -> None:
        if self._entries and entry.before != self._entries[-1].link:
            if self._has(entry):  # read again after a reconnect
                return
            self._forget_after(entry.before)
        self._entries.append(entry)
        self._left -= len(entry.data)
        while self._left < 0 and len(self._entries) > 1:
            self._left += len(self._entries.popleft().data)

    def is_behind(self, number: int) -> bool:
        """Whether the entry after that number is not remembered any more."""
        return not self._entries or number + 1 < self._entries[0].number

    def missing_after(self, number: int, link: bytes) -> Sequence[Entry]:
        """The entries that follow this one; none if it is not of this chain."""
        if not self._entries:
            return ()
        skipped = number + 1 - self._entries[0].number
        if skipped < 0 or skipped > len(self._entries):
            return ()
        before = self._entries[skipped - 1].link if skipped else self._entries[0].before
        return [*islice(self._entries, skipped, None)] if before == link else ()

    def link_of(self, number: int) -> bytes | None:
        """None if the entry is not here."""
        index = number - self._entries[0].number if self._entries else -1
        return self._entries[index].link if 0 <= index < len(self._entries) else None

    def first_after(self, number: int, link: bytes, most: int, nbytes: int) -> Sequence[Entry]:
        """The first of them: at most so many, about so many bytes, and at least one."""
        first = []
        for entry in islice(self.missing_after(number, link), most):
            if nbytes <= 0:
                break
            nbytes -= len(entry.data)
            first.append(entry)
        return first

    def _has(self, entry: Entry) -> bool:
        index = entry.number - self._entries[0].number
        return 0 <= index < len(self._entries) and self._entries[index].link == entry.link

    def _forget_after(self, link: bytes) -> None:
        """The journal goes on otherwise after this entry."""
        while self._entries and self._entries[-1].link != link:
            self._left += len(self._entries.pop().data)
