"""Ledgers of who published and who read what, and the offline check of what must hold between them."""

from collections import Counter
from dataclasses import dataclass, field

from app.messages.topic import TopicFilter

GAP = "gap"  # an entry of a reader's ledger: here it was told of a loss


@dataclass
class Ledger:
    """`published`: seq → (topic, body), of what was confirmed. `read`: a reader's selection, and its entries in order,
    each a seq with the topic and body it came with, or GAP. A reader keeps its ledger over all its connections."""

    published: dict[int, tuple[str, str]] = field(default_factory=dict)
    read: list[tuple[TopicFilter, list[tuple[int, str, str] | str]]] = field(default_factory=list)

    def faults(self) -> Counter[str]:
        """How often each promise was broken; empty when all hold."""
        faults: Counter[str] = Counter()
        seqs = sorted(self.published)
        faults["hole in the log"] = len(seqs) and seqs[-1] - seqs[0] + 1 - len(seqs)
        for topic_filter, entries in self.read:
            self._check_reader(faults, topic_filter, entries)
        return +faults

    def _check_reader(
        self, faults: Counter[str], topic_filter: TopicFilter, entries: list[tuple[int, str, str] | str]
    ) -> None:
        expected = [seq for seq in sorted(self.published) if topic_filter.matches(self.published[seq][0])]
        place = {seq: n for n, seq in enumerate(expected)}
        last, told = -1, False
        for entry in entries:
            if isinstance(entry, str):
                told = True
                continue
            seq, topic, body = entry
            if self.published.get(seq) != (topic, body):
                faults["phantom or forged"] += 1
            elif seq not in place:
                faults["not selected"] += 1
            elif place[seq] == last:
                faults["duplicate"] += 1
            elif place[seq] < last:
                faults["reordered"] += 1
            else:
                faults["lost without a gap"] += 0 if told or place[seq] == last + 1 else 1
                last, told = place[seq], False
        faults["lost at the end"] += 0 if last == len(expected) - 1 else 1
