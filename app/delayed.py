"""Delayed publishes: drafts that were accepted and take their place in the log when they are due."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from .deadlines import Deadlines
from .message import Draft
from .notes import Changed, Key, forget


class Postponed(msgspec.Struct, frozen=True):
    """A publish and its due time."""

    drafts: list[Draft]
    due: float


class Delayed:
    """Publishes by their due time, on the caller's clock."""

    def __init__(self, changed: Changed = forget) -> None:
        self._publishes: dict[int, Postponed] = {}
        self._due: Deadlines[int] = Deadlines()
        self._number = 0
        self._changed = changed

    def __len__(self) -> int:
        return len(self._publishes)

    def restore(self, publishes: Mapping[Key, Postponed]) -> None:
        for (number,), publish in publishes.items():
            self._publishes[int(number)] = publish
            self._due.set(int(number), publish.due)
        self._number = max(self._publishes, default=0)

    def note(self, number: int) -> Postponed | None:
        return self._publishes.get(number)

    def add(self, drafts: Sequence[Draft], due: float) -> None:
        self._number += 1
        self._publishes[self._number] = Postponed(list(drafts), due)
        self._due.set(self._number, due)
        self._changed("delayed", (self._number,))

    def next(self) -> float | None:
        """When the next one is due; None when there is none."""
        return self._due.next()

    def due(self, now: float) -> Iterator[Sequence[Draft]]:
        """Give up those that are due, in the order of their due times."""
        for number in self._due.due(now):
            self._changed("delayed", (number,))
            yield self._publishes.pop(number).drafts
