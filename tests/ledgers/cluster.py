"""A ledger of what publishers were told and what subscribers have read at several servers of one log, and its check
against the log that was left.

Whoever has read past the point where the log lost its end must be told of a gap at once, and then gets the log from its
beginning. Nobody else may be told of one.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

GAP: Final = "gap"  # an entry of a reader

Stored = tuple[str, str, str]
"""Id, topic and body."""


@dataclass
class Reader:
    """`entries`: over all its connections."""

    name: str
    entries: list[Stored | str] = field(default_factory=list)
    gaps: int = 0

    @property
    def last(self) -> str:
        """The body of the newest message."""
        return next((entry[2] for entry in reversed(self.entries) if not isinstance(entry, str)), "")


@dataclass
class ClusterLedger:
    """A body is that of one publish, and begins with the name of its publisher."""

    sent: dict[str, float] = field(default_factory=dict)  # body → when
    confirmed: dict[str, float] = field(default_factory=dict)  # body → when
    ids: dict[str, str] = field(default_factory=dict)  # of confirmed bodies
    unknown: set[str] = field(default_factory=set)  # never repeated: they are in the log, or not
    readers: list[Reader] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)  # status → how often; 0: no answer
    longest_publish: float = 0.0  # seconds until it was confirmed
    longest_delivery: float = 0.0  # seconds from then until a reader had it

    # What the clients record

    def publish(self, body: str) -> None:
        self.sent.setdefault(body, monotonic())

    def confirm(self, body: str, id: str) -> None:
        self.ids[body] = id
        now = self.confirmed[body] = monotonic()
        self.longest_publish = max(self.longest_publish, now - self.sent[body])

    def read(self, reader: Reader, id: str, topic: str, body: str) -> None:
        reader.entries.append((id, topic, body))
        late = monotonic() - self.confirmed.get(body, monotonic())
        self.longest_delivery = max(self.longest_delivery, late)

    def told_of_gap(self, reader: Reader) -> None:
        """A reader that connects again before it has got a message is told again."""
        if not reader.entries or reader.entries[-1] != GAP:
            reader.entries.append(GAP)
            reader.gaps += 1

    # The check

    @property
    def gaps(self) -> int:
        """That subscribers were told of."""
        return sum(reader.gaps for reader in self.readers)

    def lost(self, log: Sequence[Stored]) -> set[str]:
        return self.confirmed.keys() - {body for _, _, body in log}

    def check(self, log: Sequence[Stored]) -> Counter[str]:
        """Violations: kind → count. Empty if there are none."""
        faults: Counter[str] = Counter()
        places = {body: (id, topic) for id, topic, body in log}
        faults["duplicate in the log"] = len(log) - len(places)
        faults["phantom in the log"] = len(places.keys() - self.sent.keys())
        faults["lost"] = len(self.lost(log))
        faults["not confirmed"] = len(self.sent.keys() - self.confirmed.keys() - self.unknown)
        faults["forged id"] = sum(places[body][0] != id for body, id in self.ids.items() if body in places)
        self._check_order(faults, log)
        for reader in self.readers:
            self._check_reader(faults, reader, log)
        return +faults

    def _check_order(self, faults: Counter[str], log: Sequence[Stored]) -> None:
        """The numbers of the log are dense, and who waits for each answer keeps its order."""
        seqs = [int(id.split("-")[1]) for id, _, _ in log]
        faults["hole in the log's numbers"] = seqs != [*range(1, len(log) + 1)]
        last: defaultdict[str, int] = defaultdict(lambda: -1)
        for _, _, body in log:
            publisher, number = body.split()
            if body not in self.unknown:
                faults["reordered in the log"] += int(number) <= last[publisher]
                last[publisher] = int(number)

    def _check_reader(self, faults: Counter[str], reader: Reader, log: Sequence[Stored]) -> None:
        place = {entry: number for number, entry in enumerate(log)}
        position, is_past = -1, False  # of the newest message; what the log has lost was read
        for entry in reader.entries:
            if isinstance(entry, str):
                faults["gap in vain"] += not is_past
                position, is_past = -1, False
            elif entry not in place:
                faults["phantom"] += entry[2] not in self.sent
                is_past = True
            else:
                faults["loss without a gap"] += is_past
                faults["duplicate"] += place[entry] == position
                faults["reordered"] += place[entry] < position
                faults["left out"] += place[entry] > position + 1
                position, is_past = place[entry], False
        faults["not read to the end"] += position != len(log) - 1
