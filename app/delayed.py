"""Delayed publishes: drafts that were accepted and take their place in the log when they are due."""

from collections.abc import Iterator, Sequence
from itertools import count

from .deadlines import Deadlines
from .message import Draft


class Delayed:
    """Publishes by their due time, on the caller's clock."""

    def __init__(self) -> None:
        self._drafts: dict[int, Sequence[Draft]] = {}
        self._due: Deadlines[int] = Deadlines()
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._drafts)

    def add(self, drafts: Sequence[Draft], due: float) -> None:
        number = next(self._numbers)
        self._drafts[number] = drafts
        self._due.set(number, due)

    def next(self) -> float | None:
        """When the next one is due; None when there is none."""
        return self._due.next()

    def due(self, now: float) -> Iterator[Sequence[Draft]]:
        """Give up those that are due, in the order of their due times."""
        for number in self._due.due(now):
            yield self._drafts.pop(number)
