"""Messages for one subscriber (delivery=one): each waits in the log, unclaimed, or is in transit to a subscriber.

The log retains such a message until its subscriber has it. While it is in transit, no other subscriber gets it. If many
nodes share the log, it is in transit by one of them, whose session may end before the subscriber has it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..messages.topic import TopicFilter
from .run import Run
from .topic_log import TopicLog


class SingleDelivery:
    """`unclaimed`: the topics with unclaimed messages. `in_transit`: the topics of the messages in transit, by seq.
    `in_transit_of`: the number of these, by topic. TopicLog.for_one has the state of each message. `node`: the one
    whose commands are carried out; empty if there is only one. `nodes`: the one that has each message in transit, by
    seq, unless that is empty."""

    def __init__(self, topics: Mapping[str, TopicLog]) -> None:
        """`topics`: those of the log."""
        self._topics = topics
        self.unclaimed: set[str] = set()
        self.in_transit: dict[int, str] = {}
        self.in_transit_of: Counter[str] = Counter()
        self.node = ""
        self.nodes: dict[int, str] = {}
        self._new: list[Run] = []
        self.returned: dict[str, None] = {}  # topics that have had messages given back

    def restore(self, name: str, seq: int) -> None:
        """Add a stored message, which is unclaimed."""
        self._topics[name].for_one[seq] = True
        self.unclaimed.add(name)

    def resume(self, in_transit: Mapping[int, str]) -> None:
        """After all were restored as unclaimed: these are still in transit."""
        for seq, name in in_transit.items():
            self._claim(self._topics[name], seq)

    def add(self, topic: TopicLog, run: Run) -> None:
        """A new message, which is in transit."""
        self._send(topic, run.seq)
        self._new.append(run)

    def take_new(self) -> list[Run]:
        """The messages that were added since the last call."""
        new, self._new = self._new, []
        return new

    def may_have_unclaimed(self, topic_filter: TopicFilter) -> bool:
        """False if no unclaimed message is of these topics; patterns are not looked at."""
        waiting = self.unclaimed
        return bool(waiting) and (bool(topic_filter.patterns) or not waiting.isdisjoint(topic_filter.topics))

    def take_returned(self) -> Sequence[str]:
        """The topics that have had messages given back since the last call."""
        returned, self.returned = [*self.returned], {}
        return returned

    def of_node(self, node: str) -> list[int]:
        """The messages that the node has in transit."""
        return [seq for seq, holder in self.nodes.items() if holder == node]

    def take(self, name: str, seq: int) -> bool:
        """Claim an unclaimed message of a topic: it is in transit now. False if it is not unclaimed."""
        topic = self._topics.get(name)
        if topic is None or not topic.for_one.get(seq):
            return False
        self._claim(topic, seq)
        return True

    def _claim(self, topic: TopicLog, seq: int) -> None:
        self._send(topic, seq)
        self._update_unclaimed(topic)

    def _send(self, topic: TopicLog, seq: int) -> None:
        topic.for_one[seq] = False
        self.in_transit[seq] = topic.name
        if self.node:
            self.nodes[seq] = self.node
        self.in_transit_of[topic.name] += 1

    def give_back(self, topic: TopicLog, seqs: Iterable[int]) -> None:
        """No subscriber has these messages: they are unclaimed again."""
        for seq in seqs:
            self._arrive(topic, seq)
            topic.for_one[seq] = True
        self.unclaimed.add(topic.name)
        self.returned[topic.name] = None

    def remove(self, topic: TopicLog, seq: int) -> None:
        """The log has removed the message."""
        del topic.for_one[seq]
        self._arrive(topic, seq)
        self._update_unclaimed(topic)

    def by_topic(self, seqs: Iterable[int]) -> dict[TopicLog, list[int]]:
        """Those of the messages that this node has in transit."""
        topics: dict[TopicLog, list[int]] = {}
        for seq in seqs:
            if (name := self.in_transit.get(seq)) and self.nodes.get(seq, "") == self.node:
                topics.setdefault(self._topics[name], []).append(seq)
        return topics

    def _arrive(self, topic: TopicLog, seq: int) -> None:
        """The message is not in transit any more, if it was."""
        if self.in_transit.pop(seq, None):
            self.nodes.pop(seq, None)
            self.in_transit_of[topic.name] -= 1
            if not self.in_transit_of[topic.name]:
                del self.in_transit_of[topic.name]

    def _update_unclaimed(self, topic: TopicLog) -> None:
        if len(topic.for_one) == self.in_transit_of.get(topic.name, 0):
            self.unclaimed.discard(topic.name)
