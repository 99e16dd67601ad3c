"""What retention took, topic by topic, so that whoever comes back too late can be told."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from .changes import Key, OnChange, ignore_change
from .run import Run

MAX_FORGOTTEN: Final = (
    10_000  # dropped topics whose loss is remembered by name; of older ones, only that there was some
)

_seq = attrgetter("seq")


class TrimMark(msgspec.Struct, gc=False):
    """What retention took from a topic: the seq and time (and when that was on the log's own clock, unless it is 0 and
    the same) of the newest such message, and how many there were.
    `first` is the topic's first message ever: who stopped before it has missed all of them."""

    seq: int = 0
    time: float = 0.0
    count: int = 0
    first: int = 0
    at: float = 0.0


class TrimMarks:
    """`newest` is the greatest seq that was lost: most questions about a gap end there. A topic has its own Loss; those
    of dropped topics are here. `floor` is the greatest of those that are no longer remembered by name."""

    def __init__(self, on_change: OnChange = ignore_change) -> None:
        self.newest = 0
        self.floor = TrimMark()
        self._forgotten: dict[str, TrimMark] = {}
        self._on_change = on_change

    def restore(self, forgotten: Mapping[Key, TrimMark], floor: TrimMark, topics: Iterable[TrimMark]) -> None:
        """`topics`: the losses of the topics that are there."""
        self._forgotten = {str(name): loss for (name,), loss in forgotten.items()}
        self.floor = floor
        self.newest = max(loss.seq for loss in (*topics, *forgotten.values(), floor))

    def record(self, name: str) -> TrimMark | None:
        return self._forgotten.get(name)

    def add(self, loss: TrimMark, runs: Sequence[Run]) -> None:
        """Retention takes these messages too, oldest first."""
        for run in runs:
            loss.count += run.live
        newest = runs[-1]
        if newest.seq > loss.seq:
            loss.seq, loss.time, loss.at = newest.seq, newest.time, newest.at
        self.newest = max(self.newest, newest.seq)

    def restore_mark(self, name: str) -> TrimMark:
        """The loss of a topic that is there again, or is new."""
        if name not in self._forgotten:
            return msgspec.structs.replace(self.floor)
        self._on_change("forgotten", (name,))
        return self._forgotten.pop(name)

    def forget(self, name: str, loss: TrimMark) -> None:
        """The topic is no more."""
        if loss.seq:
            self._forgotten[name] = loss
            self._on_change("forgotten", (name,))
        if len(self._forgotten) > MAX_FORGOTTEN:
            oldest = next(iter(self._forgotten))
            self._on_change("forgotten", (oldest,))
            loss = self._forgotten.pop(oldest)
            self.floor = max(self.floor, TrimMark(loss.seq, loss.time, first=-1, at=loss.at), key=_seq)

    def of(self, name: str) -> TrimMark:
        """That of a topic which is not there."""
        return self._forgotten.get(name, self.floor)

    @property
    def forgotten(self) -> Iterable[str]:
        """The topics that are not there and whose loss is remembered by name."""
        return self._forgotten
