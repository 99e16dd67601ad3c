"""Delayed publishes: accepted drafts that enter the log when they are due."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ..messages.message import Draft, count_messages
from .changes import Key, OnChange, ignore_change
from .deadlines import Deadlines


class Postponed(msgspec.Struct, frozen=True):
    """A delayed publish. `due`: by the log's clock."""

    drafts: list[Draft]
    due: float


class Delayed:
    """All delayed publishes, numbered in the order of their acceptance."""

    def __init__(self, on_change: OnChange = ignore_change) -> None:
        self._publishes: dict[int, Postponed] = {}
        self._due: Deadlines[int] = Deadlines()
        self._numbers: dict[str, dict[int, int]] = {}  # by topic: the messages of each of its publishes, by number
        self._number = 0
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._publishes)

    def restore(self, publishes: Mapping[Key, Postponed]) -> None:
        for (number,), publish in publishes.items():
            self._set(int(number), publish)
        self._number = max(self._publishes, default=0)

    def record(self, number: int) -> Postponed | None:
        return self._publishes.get(number)

    def add(self, drafts: Sequence[Draft], due: float) -> None:
        self._number += 1
        self._set(self._number, Postponed(list(drafts), due))
        self._on_change("delayed", (self._number,))

    def drafts(self) -> Iterator[Sequence[Draft]]:
        return (publish.drafts for publish in self._publishes.values())

    def counters(self) -> dict[str, int]:
        """The number of delayed messages, by topic."""
        return {topic: sum(counts.values()) for topic, counts in self._numbers.items()}

    def drop(self, topic: str) -> Iterator[Sequence[Draft]]:
        """Remove the publishes that a topic has now, one by one. Some of them may become due in between."""
        for number in tuple(self._numbers.get(topic, ())):
            if number in self._publishes:
                self._due.discard(number)
                yield self._take(number)

    def next(self) -> float | None:
        """The earliest due time, or None."""
        return self._due.next()

    def due(self, now: float) -> Iterator[Sequence[Draft]]:
        """Remove the publishes that are due, one by one, in the order of their due times."""
        for number in self._due.due(now):
            yield self._take(number)

    def _set(self, number: int, publish: Postponed) -> None:
        self._publishes[number] = publish
        self._due.set(number, publish.due)
        self._numbers.setdefault(publish.drafts[0].envelope.topic, {})[number] = count_messages(publish.drafts)

    def _take(self, number: int) -> Sequence[Draft]:
        self._on_change("delayed", (number,))
        drafts = self._publishes.pop(number).drafts
        numbers = self._numbers[drafts[0].envelope.topic]
        del numbers[number]
        if not numbers:
            del self._numbers[drafts[0].envelope.topic]
        return drafts
