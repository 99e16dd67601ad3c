"""Trim marks: what retention removed from each topic, so that a subscriber that resumes too late gets a gap."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from .changes import Key, OnChange, ignore_change
from .run import Run

MAX_FORGOTTEN: Final = 10_000  # dropped topics that keep a mark of their own; older ones share one, the floor

_seq = attrgetter("seq")


class TrimMark(msgspec.Struct, gc=False):
    """What retention removed from a topic: `seq` and `time` of the newest removed message, and the `count` of all.

    `at`: the same moment as `time` by the log's own clock; 0 if both are equal. `first`: the seq of the topic's first
    message ever; a subscriber that stopped before it missed all `count` messages.
    """

    seq: int = 0
    time: float = 0.0
    count: int = 0
    first: int = 0
    at: float = 0.0


class TrimMarks:
    """The marks of dropped topics; an existing topic has its own mark.

    `newest`: the greatest seq that was removed from any topic; a cursor at or after it has no gap. `floor`: the
    greatest of the marks that are no longer remembered by name.
    """

    def __init__(self, on_change: OnChange = ignore_change) -> None:
        self.newest = 0
        self.floor = TrimMark()
        self._forgotten: dict[str, TrimMark] = {}
        self._on_change = on_change

    def restore(self, forgotten: Mapping[Key, TrimMark], floor: TrimMark, topics: Iterable[TrimMark]) -> None:
        """`topics`: the marks of the existing topics."""
        self._forgotten = {str(name): loss for (name,), loss in forgotten.items()}
        self.floor = floor
        self.newest = max(loss.seq for loss in (*topics, *forgotten.values(), floor))

    def record(self, name: str) -> TrimMark | None:
        return self._forgotten.get(name)

    def add(self, loss: TrimMark, runs: Sequence[Run]) -> None:
        """Extend a topic's mark: retention removes these messages too. `runs`: oldest first."""
        for run in runs:
            loss.count += run.live
        newest = runs[-1]
        if newest.seq > loss.seq:
            loss.seq, loss.time, loss.at = newest.seq, newest.time, newest.at
        self.newest = max(self.newest, newest.seq)

    def restore_mark(self, name: str) -> TrimMark:
        """The mark for a topic that is created, perhaps anew."""
        if name not in self._forgotten:
            return msgspec.structs.replace(self.floor)
        self._on_change("forgotten", (name,))
        return self._forgotten.pop(name)

    def add_dropped(self, name: str, loss: TrimMark) -> None:
        """Keep the mark of a topic that is dropped."""
        if loss.seq:
            self._forgotten[name] = loss
            self._on_change("forgotten", (name,))
        if len(self._forgotten) > MAX_FORGOTTEN:
            oldest = next(iter(self._forgotten))
            self._on_change("forgotten", (oldest,))
            loss = self._forgotten.pop(oldest)
            self.floor = max(self.floor, TrimMark(loss.seq, loss.time, first=-1, at=loss.at), key=_seq)

    def of(self, name: str) -> TrimMark:
        """The mark of a topic that does not exist."""
        return self._forgotten.get(name, self.floor)

    @property
    def forgotten(self) -> Iterable[str]:
        """The names of dropped topics that have a mark of their own."""
        return self._forgotten
