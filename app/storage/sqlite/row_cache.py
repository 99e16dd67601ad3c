"""Rows of the message table that were read or written lately, so that an ack need not read them."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from .row import Row

_MAX_BYTES: Final = 16 << 20  # of cached messages
_OVERHEAD: Final = 512  # bytes of each message besides its body


class RowCache:
    """`by_key`: the rows, oldest first. `by_seq`: the same, by the seq of each message. Others only read them."""

    __slots__ = ("_bytes", "by_key", "by_seq")

    def __init__(self) -> None:
        self.by_key: OrderedDict[int, Row] = OrderedDict()
        self.by_seq: dict[int, Row] = {}
        self._bytes = 0  # of the rows when they were added

    def add(self, row: Row, nbytes: int) -> None:
        """`nbytes`: of all its bodies. A row without messages is not cached."""
        run = row.run
        if run.live and row.key not in self.by_key:
            self.by_key[row.key] = row
            self.by_seq.update(dict.fromkeys(run.seqs, row))
            row.size = nbytes + _OVERHEAD * run.live
            self._bytes += row.size
        while self._bytes > _MAX_BYTES and len(self.by_key) > 1:
            self.discard(next(iter(self.by_key.values())))

    def discard(self, row: Row) -> None:
        """Nothing, if the row is not cached."""
        if self.by_key.pop(row.key, None):
            self._bytes -= row.size
            self.discard_messages(row.run.seqs)

    def discard_messages(self, seqs: Iterable[int]) -> None:
        """These messages of cached rows are gone."""
        for seq in seqs:
            del self.by_seq[seq]
