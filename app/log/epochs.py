"""Epochs: the lives of a log. A new one begins whenever an accepted message may be gone.

A log that was cut short goes on in a new epoch from where it was cut: up to there the old ids are its own, and what an
old id says beyond is lost.
"""

import secrets
import string
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter

from ..messages.message import Id


def new_epoch() -> str:
    """Eight letters and digits that name one life of a log."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


class Epochs:
    """The current epoch, and the ones before it with the last seq of each that is still the log's."""

    def __init__(self, current: str, parents: Sequence[tuple[str, int]] = ()) -> None:
        """`parents`: the oldest first, so their last seqs never fall."""
        self.current = current
        self._parents = parents
        self._last = dict(parents)

    def of(self, seq: int) -> str:
        """The epoch in which the message was accepted."""
        place = bisect_left(self._parents, seq, key=itemgetter(1))
        return self._parents[place][0] if place < len(self._parents) else self.current

    def knows(self, id: Id) -> bool:
        """Whether the id is a place of this log, unless it lies ahead of it."""
        return id.epoch == self.current or id.seq <= self._last.get(id.epoch, -1)
