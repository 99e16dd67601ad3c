"""Which cohorts select a topic."""

from collections.abc import Iterator
from typing import Final

from ..messages.topic import TopicTrie
from .cohort import Cohort

REMEMBERED: Final = 65_536  # cohorts, of all topics together: to find them takes long when patterns are many


class SubscriptionIndex:
    """All cohorts of a broker, found by topic."""

    def __init__(self) -> None:
        self._all: dict[Cohort, None] = {}
        self._by_topic: dict[str, dict[Cohort, None]] = {}
        self._by_pattern: TopicTrie[Cohort] = TopicTrie()
        self._known: dict[str, tuple[Cohort, ...]] = {}  # by topic, since a cohort last came or went
        self._size = 0  # cohorts in there, and a topic counts as one more

    def __iter__(self) -> Iterator[Cohort]:
        """Cohorts may come and go meanwhile."""
        return iter(tuple(self._all))

    def matching(self, topic: str) -> tuple[Cohort, ...]:
        """Those that select the topic."""
        found = self._known.get(topic)
        if found is None:
            found = self.find(topic)
            self._size += 1 + len(found)
            if self._size > REMEMBERED:
                self._forget()
            else:
                self._known[topic] = found
        return found

    def find(self, topic: str) -> tuple[Cohort, ...]:
        """The same, for who asks of every topic, and shall displace none that is remembered."""
        exact, matching = self._by_topic.get(topic, ()), self._by_pattern.matching(topic)
        return tuple(dict.fromkeys([*exact, *matching]))

    def add(self, cohort: Cohort) -> None:
        self._forget()
        self._all[cohort] = None
        for topic in cohort.topic_filter.topics:
            self._by_topic.setdefault(topic, {})[cohort] = None
        for pattern in cohort.topic_filter.patterns:
            self._by_pattern.add(pattern, cohort)

    def discard(self, cohort: Cohort) -> None:
        self._forget()
        del self._all[cohort]
        for topic in cohort.topic_filter.topics:
            del self._by_topic[topic][cohort]
            if not self._by_topic[topic]:
                del self._by_topic[topic]
        for pattern in cohort.topic_filter.patterns:
            self._by_pattern.discard(pattern, cohort)

    def _forget(self) -> None:
        self._known.clear()
        self._size = 0
