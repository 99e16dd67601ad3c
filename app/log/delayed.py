"""Delayed publishes: accepted drafts that enter the log when they are due."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ..messages.message import Draft, count_messages
from .changes import Key, OnChange, ignore_change
from .deadlines import Deadlines


class Postponed(msgspec.Struct, frozen=True):
    """A delayed publish. `due`: by the log's clock, unless it has a time of the wall clock. `epoch`: in which it was
    accepted; empty if that was before delayed publishes had ids."""

    drafts: list[Draft]
    due: float
    epoch: str = ""

    @property
    def topic(self) -> str:
        return self.drafts[0].envelope.topic

    @property
    def at(self) -> float | None:
        """The time of the wall clock that it waits for, if any: it is due then, however that clock is set."""
        return self.drafts[0].at

    def wall_due(self, ahead: float) -> float:
        """When it is due by the wall clock, which is `ahead` seconds ahead of the log's clock."""
        return self.due + ahead if self.at is None else self.at


class Delayed:
    """All delayed publishes, by number. One that is due and finds no room is tried again, and keeps its number."""

    def __init__(self, on_change: OnChange = ignore_change) -> None:
        self._publishes: dict[int, Postponed] = {}
        self._due: Deadlines[int] = Deadlines()  # by the log's clock
        self._at: Deadlines[int] = Deadlines()  # by the wall clock
        self._numbers: dict[str, dict[int, int]] = {}  # by topic: the messages of each of its publishes, by number
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._publishes)

    def restore(self, publishes: Mapping[Key, Postponed]) -> None:
        for (number,), publish in publishes.items():
            self._set(int(number), publish)

    def record(self, number: int) -> Postponed | None:
        return self._publishes.get(number)

    @property
    def last(self) -> int:
        """The greatest number."""
        return max(self._publishes, default=0)

    def add(self, number: int, publish: Postponed) -> None:
        self._set(number, publish)
        self._on_change("delayed", (number,))

    def __iter__(self) -> Iterator[int]:
        return iter(self._publishes)

    def drafts(self) -> Iterator[Sequence[Draft]]:
        return (publish.drafts for publish in self._publishes.values())

    def counters(self) -> dict[str, int]:
        """The number of delayed messages, by topic."""
        return {topic: sum(counts.values()) for topic, counts in self._numbers.items()}

    def of_topic(self, topic: str) -> Iterator[int]:
        """The publishes that a topic has now, one by one. Some of them may be removed in between."""
        return (number for number in tuple(self._numbers.get(topic, ())) if number in self._publishes)

    @property
    def follows_wall_clock(self) -> bool:
        """True if setting the wall clock can change what is due."""
        return len(self._at) > 0

    def next(self, ahead: float) -> float:
        """The earliest due time by the log's clock; inf if there is none. `ahead`: as in Postponed.wall_due()."""
        return min(self._due.next(), self._at.next() - ahead)

    def due(self, now: float, ahead: float) -> Iterator[int]:
        """The publishes that are due, one by one, in the order of their due times. The caller must remove() or
        postpone() each."""
        while (first := self.next(ahead)) <= now:
            after = self._due.next()
            yield next(self._due.due(after) if after == first else self._at.due(self._at.next()))

    def time_of(self, number: int) -> float | None:
        """When the publish is due, or is tried again; None if it waits for its time of the wall clock."""
        return self._due.get(number)

    def postpone(self, number: int, until: float) -> None:
        """Try again then."""
        self._at.discard(number)
        self._due.set(number, until)

    def retry(self, number: int) -> None:
        """Try again at its due time, even if it was postponed."""
        if (publish := self._publishes.get(number)) is not None:
            self._wait(number, publish)

    def remove(self, number: int) -> None:
        self._on_change("delayed", (number,))
        self._due.discard(number)
        self._at.discard(number)
        topic = self._publishes.pop(number).topic
        numbers = self._numbers[topic]
        del numbers[number]
        if not numbers:
            del self._numbers[topic]

    def _set(self, number: int, publish: Postponed) -> None:
        self._publishes[number] = publish
        self._wait(number, publish)
        self._numbers.setdefault(publish.topic, {})[number] = count_messages(publish.drafts)

    def _wait(self, number: int, publish: Postponed) -> None:
        if publish.at is None:
            self._due.set(number, publish.due)
        else:
            self._due.discard(number)
            self._at.set(number, publish.at)
