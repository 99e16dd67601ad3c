"""Every message of a soak by its number, what became of it, and who read it; the check of what must hold between them.

A number stands at the start of each message's body, so that all doors show it. Numbers, not bodies, are kept: an hour
of them fits in some megabytes.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from app.messages.topic import TopicFilter

PADDING: Final = "0123456789abcdef" * 128
LOSABLE, SURE, ONE = "losable", "sure", "one"  # may be missed by who is away; by nobody; goes to exactly one reader


@dataclass
class Sent:
    topic: str
    kind: str
    confirmed: bool = False


@dataclass
class Reader:
    """What one reader got over all its connections. `away`: it may miss what is not retained."""

    name: str
    topic_filter: TopicFilter
    away: bool = True
    got: "array[int]" = field(default_factory=lambda: array("L"))
    faults: Counter[str] = field(default_factory=Counter)
    _seq: int = 0

    def take(self, text: str, id: str = "") -> None:
        """A message's text, and its id where the door shows it."""
        number, _, padding = text.partition(" ")
        if not (number.isdigit() and PADDING.startswith(padding)):
            self.faults["forged"] += 1
            return
        self.got.append(int(number))
        if id:
            seq = int(id.rpartition("-")[2])
            self.faults["out of order"] += seq <= self._seq
            self._seq = seq


class Book:
    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.readers: list[Reader] = []
        self.takers: list[Reader] = []  # of messages for one
        self.acked: dict[str, Counter[int]] = {}  # group → how often a number was acked
        self.perhaps_acked: dict[str, set[int]] = {}  # group → numbers whose ack got no answer
        self.work = ""  # the topic that groups share out
        self.faults: Counter[str] = Counter()  # seen while it ran
        self.whose: dict[str, str] = {}  # readers that a check found fault with
        self.notes: Counter[str] = Counter()  # what is no fault, but worth a count

    def new(self, topic: str, kind: str = SURE, size: int = 64) -> tuple[int, str]:
        """The next message: its number and its text."""
        number = len(self.sent)
        self.sent.append(Sent(topic, kind))
        return number, f"{number} {PADDING[: size % len(PADDING)]}"

    def confirm(self, *numbers: int) -> None:
        for number in numbers:
            self.sent[number].confirmed = True

    def check(self) -> Counter[str]:
        """How often each promise was broken; empty when all hold."""
        faults = Counter(self.faults)
        self.whose.clear()
        for reader in self.readers:
            faults += reader.faults
            expected = self._expected(reader)
            found = self._compare(reader.got, expected[SURE], expected[SURE] | expected[LOSABLE])
            if found:
                missing = sorted(expected[SURE] - set(reader.got))[:10]
                self.whose[reader.name] = f"{dict(found)}, the first that are missing: {missing}"
            faults += found
        one = {n for n, sent in enumerate(self.sent) if sent.kind == ONE}
        certain = {n for n in one if self.sent[n].confirmed}
        faults += self._compare(array("L", [n for taker in self.takers for n in taker.got]), certain, one)
        work = {n for n, sent in enumerate(self.sent) if sent.topic == self.work}
        certain = {n for n in work if self.sent[n].confirmed}
        for group, acked in self.acked.items():
            faults["never acked"] += len(certain - acked.keys() - self.perhaps_acked.get(group, set()))
            faults["phantom"] += len(acked.keys() - work)
        return +faults

    @property
    def done_twice(self) -> int:
        """Work that was acked more than once: at least once is the promise, so it is no fault."""
        return sum(sum(acked.values()) - len(acked) for acked in self.acked.values())

    def _expected(self, reader: Reader) -> dict[str, set[int]]:
        expected: dict[str, set[int]] = {SURE: set(), LOSABLE: set()}
        for number, sent in enumerate(self.sent):
            if sent.kind != ONE and reader.topic_filter.matches(sent.topic):
                sure = sent.confirmed and (sent.kind == SURE or not reader.away)
                expected[SURE if sure else LOSABLE].add(number)
        return expected

    @staticmethod
    def _compare(got: "array[int]", certain: set[int], possible: set[int]) -> Counter[str]:
        seen = set(got)
        return +Counter({
            "lost": len(certain - seen), "phantom": len(seen - possible), "duplicate": len(got) - len(seen)
        })  # fmt: skip
