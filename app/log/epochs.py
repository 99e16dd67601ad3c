"""Epochs: the lives of a log. A new epoch begins whenever an accepted message may be gone.

A log that lost its end continues in a new epoch. Ids of the old epoch up to the cut remain valid; the messages of later
ids are lost.
"""

import secrets
import string
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter

from ..messages.message import Id


def new_epoch() -> str:
    """Eight random letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


class Epochs:
    """The current epoch, and the earlier ones, each with the last seq of it that is still in the log."""

    def __init__(self, current: str, parents: Sequence[tuple[str, int]] = ()) -> None:
        """`parents`: earlier epochs, the oldest first, so that their last seqs never decrease."""
        self.current = current
        self._parents = parents
        self._last = dict(parents)

    @property
    def parents(self) -> Sequence[tuple[str, int]]:
        return self._parents

    @property
    def first(self) -> str:
        return self._parents[0][0] if self._parents else self.current

    def of(self, seq: int) -> str:
        """The epoch in which the message was accepted."""
        index = bisect_left(self._parents, seq, key=itemgetter(1))
        return self._parents[index][0] if index < len(self._parents) else self.current

    def begin(self, epoch: str, head: int) -> "Epochs":
        """Those of a log that goes on in a new epoch after this seq."""
        return Epochs(epoch, [*self._parents, (self.current, head)] if head else [])

    def knows(self, id: Id) -> bool:
        """Whether the id is of this log. An id of the current epoch may still be ahead of the newest message."""
        return id.epoch == self.current or id.seq <= self._last.get(id.epoch, -1)
