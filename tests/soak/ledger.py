"""The ledger of a soak: every message by its number, and which subscribers and consumers got it; and the check of both.

The number stands at the start of the message's body, so that it is received through every protocol. The ledger stores
numbers, not bodies: those of an hour fit in a few megabytes.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from app.messages.topic import TopicFilter

PADDING: Final = "0123456789abcdef" * 128
# What a message's publisher may expect:
BEST_EFFORT: Final = "best effort"  # a subscriber that is disconnected misses it
GUARANTEED: Final = "guaranteed"  # every subscriber gets it
ONE: Final = "one"  # exactly one subscriber gets it


@dataclass
class Publication:
    topic: str
    kind: str
    confirmed: bool = False


@dataclass
class SubscriberRecord:
    """The messages that a subscriber got over all its connections. `reconnects`: it may miss BEST_EFFORT messages."""

    name: str
    topic_filter: TopicFilter
    reconnects: bool = True
    received: "array[int]" = field(default_factory=lambda: array("L"))
    faults: Counter[str] = field(default_factory=Counter)
    _seq: int = 0

    def receive(self, text: str, id: str = "") -> None:
        """Record a message's text, and its id if the protocol shows it."""
        number, _, padding = text.partition(" ")
        if not (number.isdigit() and PADDING.startswith(padding)):
            self.faults["forged"] += 1
            return
        self.received.append(int(number))
        if id:
            seq = int(id.rpartition("-")[2])
            self.faults["out of order"] += seq <= self._seq
            self._seq = seq


class SoakLedger:
    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.subscribers: list[SubscriberRecord] = []
        self.one_subscribers: list[SubscriberRecord] = []  # of messages with delivery one
        self.acked: dict[str, Counter[int]] = {}  # group → how often each number was acked
        self.maybe_acked: dict[str, set[int]] = {}  # group → numbers whose ack got no answer
        self.work_topic = ""  # the topic of the groups
        self.faults: Counter[str] = Counter()  # seen during the run
        self.details: dict[str, str] = {}  # subscriber → a sentence about its faults, of the last check
        self.counts: Counter[str] = Counter()  # other events of the run, which are no faults

    def next_message(self, topic: str, kind: str = GUARANTEED, size: int = 64) -> tuple[int, str]:
        """Record a message that will be published. Returns its number and its text."""
        number = len(self.publications)
        self.publications.append(Publication(topic, kind))
        return number, f"{number} {PADDING[: size % len(PADDING)]}"

    def confirm(self, *numbers: int) -> None:
        for number in numbers:
            self.publications[number].confirmed = True

    def check(self) -> Counter[str]:
        """How often each promise was broken; empty if none was."""
        faults = Counter(self.faults)
        self.details.clear()
        for subscriber in self.subscribers:
            faults += subscriber.faults
            certain, optional = self._expected(subscriber)
            found = self._compare(subscriber.received, certain, certain | optional)
            if found:
                missing = sorted(certain - set(subscriber.received))[:10]
                self.details[subscriber.name] = f"{dict(found)}, the first missing: {missing}"
            faults += found
        one = {number for number, publication in enumerate(self.publications) if publication.kind == ONE}
        received = array("L", [number for subscriber in self.one_subscribers for number in subscriber.received])
        faults += self._compare(received, self._confirmed(one), one)
        work = {number for number, sent in enumerate(self.publications) if sent.topic == self.work_topic}
        confirmed_work = self._confirmed(work)
        for group, acked in self.acked.items():
            faults["never acked"] += len(confirmed_work - acked.keys() - self.maybe_acked.get(group, set()))
            faults["phantom"] += len(acked.keys() - work)
        return +faults

    @property
    def acked_again(self) -> int:
        """Acks of messages that were acked before. This is no fault, since groups promise at-least-once delivery."""
        return sum(sum(acked.values()) - len(acked) for acked in self.acked.values())

    def _confirmed(self, numbers: set[int]) -> set[int]:
        return {number for number in numbers if self.publications[number].confirmed}

    def _expected(self, subscriber: SubscriberRecord) -> tuple[set[int], set[int]]:
        """The numbers that it must have received, and those that it may have received."""
        certain: set[int] = set()
        optional: set[int] = set()
        for number, publication in enumerate(self.publications):
            if publication.kind != ONE and subscriber.topic_filter.matches(publication.topic):
                guaranteed = publication.kind == GUARANTEED or not subscriber.reconnects
                (certain if publication.confirmed and guaranteed else optional).add(number)
        return certain, optional

    @staticmethod
    def _compare(received: "array[int]", certain: set[int], possible: set[int]) -> Counter[str]:
        unique = set(received)
        return +Counter({
            "lost": len(certain - unique), "phantom": len(unique - possible), "duplicate": len(received) - len(unique)
        })  # fmt: skip
