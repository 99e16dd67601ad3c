"""Who published what, was told what and has read what, while the server was killed; and the offline check of the file
that was left.
"""

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from app.messages.topic import TopicFilter
from tests.ledgers.subscribers import GAP, Ledger
from tests.storage.stored_messages import kept

Entry = tuple[int, str, str] | str


@dataclass(frozen=True)
class Publish:
    """`bodies`: one, or those of a batch. Each is of one publish only; they rise as those of its publisher do."""

    publisher: str
    number: int
    topic: str
    bodies: list[str]

    @property
    def key(self) -> str:
        return f"{self.publisher}-{self.number}"


@dataclass
class CrashLedger:
    sent: list[Publish] = field(default_factory=list)  # each is repeated until it is confirmed
    told: defaultdict[str, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))  # by key: id, index
    statuses: Counter[int] = field(default_factory=Counter)
    unknown: int = 0  # publishes that ended without an answer
    read: list[tuple[TopicFilter, list[Entry]]] = field(default_factory=list)

    def faults(self, path: Path) -> Counter[str]:
        """How often each promise was broken; empty when all hold."""
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            ((epoch,), *more) = db.execute("SELECT name FROM epoch ORDER BY number").fetchall()
            rows = [(*row[:3], row.body.decode(), row.dead) for row in kept(db)]  # a dead letter is a group's
        readers = Ledger({seq: (topic, body) for seq, topic, _, body, _ in rows}, self.read)
        faults = readers.faults()
        faults["new epoch"] = len(more)
        faults["gap"] = sum(entries.count(GAP) for _, entries in self.read)
        faults["refused"] = self.statuses.total() - self.statuses[200] - self.statuses[201]
        self._check_places(faults, rows)
        published = [row for row in rows if not row[-1]]
        places = {body: (f"{epoch}-{seq}", topic, position) for seq, topic, position, body, _ in published}
        faults["duplicate in the log"] = len(published) - len(places)
        for publish in self.sent:
            self._check_publish(faults, publish, places)
        faults["phantom in the log"] = len(places.keys() - {body for publish in self.sent for body in publish.bodies})
        self._check_order(faults, places)
        return +faults

    @staticmethod
    def _check_places(faults: Counter[str], rows: list[tuple[int, str, int, str, bool]]) -> None:
        """Dense, in the log and in each topic."""
        positions: defaultdict[str, int] = defaultdict(int)
        for place, (seq, topic, position, *_) in enumerate(rows, 1):
            faults["hole in the log's numbers"] += seq != place
            faults["hole in a topic's numbers"] += position != positions[topic]
            positions[topic] += 1

    def _check_publish(self, faults: Counter[str], publish: Publish, places: dict[str, tuple[str, str, int]]) -> None:
        stored = [places.get(body) for body in publish.bodies]
        faults["lost"] += stored.count(None)
        told = self.told[publish.key]
        faults["confirmed twice with different ids"] += len(told) != 1
        for id, index in told:
            faults["forked id"] += stored[0] != (id, publish.topic, index)

    def _check_order(self, faults: Counter[str], places: dict[str, tuple[str, str, int]]) -> None:
        """A publisher that waits for each answer keeps its order; a batch is in one piece."""
        last: defaultdict[str, int] = defaultdict(int)
        for publish in self.sent:
            seqs = [int(places[body][0].split("-")[1]) for body in publish.bodies if body in places]
            faults["batch torn"] += seqs != list(range(seqs[0], seqs[0] + len(publish.bodies))) if seqs else 0
            faults["reordered in the log"] += any(seq <= last[publish.publisher] for seq in seqs)
            last[publish.publisher] = max(seqs, default=last[publish.publisher])
