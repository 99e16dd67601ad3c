"""A ledger of what was published and what each subscriber received, and the check of it."""

from collections import Counter
from dataclasses import dataclass, field

from app.messages.topic import TopicFilter

GAP = "gap"  # an entry of a subscriber: a gap was reported here


@dataclass
class Ledger:
    """`published`: seq → (topic, body) of confirmed messages. `read`: per subscriber, over all its connections, its
    topics and its entries in order. An entry is (seq, topic, body) or GAP."""

    published: dict[int, tuple[str, str]] = field(default_factory=dict)
    read: list[tuple[TopicFilter, list[tuple[int, str, str] | str]]] = field(default_factory=list)

    def faults(self) -> Counter[str]:
        """Violations: kind → count. Empty if there are none."""
        faults: Counter[str] = Counter()
        seqs = sorted(self.published)
        faults["hole in the log"] = len(seqs) and seqs[-1] - seqs[0] + 1 - len(seqs)
        for topic_filter, entries in self.read:
            self._check_subscriber(faults, topic_filter, entries)
        return +faults

    def _check_subscriber(
        self, faults: Counter[str], topic_filter: TopicFilter, entries: list[tuple[int, str, str] | str]
    ) -> None:
        expected = [seq for seq in sorted(self.published) if topic_filter.matches(self.published[seq][0])]
        position = {seq: n for n, seq in enumerate(expected)}
        last, gap_reported = -1, False
        for entry in entries:
            if isinstance(entry, str):
                gap_reported = True
                continue
            seq, topic, body = entry
            if self.published.get(seq) != (topic, body):
                faults["phantom or forged"] += 1
            elif seq not in position:
                faults["not selected"] += 1
            elif position[seq] == last:
                faults["duplicate"] += 1
            elif position[seq] < last:
                faults["reordered"] += 1
            else:
                faults["lost without a gap"] += 0 if gap_reported or position[seq] == last + 1 else 1
                last, gap_reported = position[seq], False
        faults["lost at the end"] += 0 if last == len(expected) - 1 else 1
