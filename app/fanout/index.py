"""The index of subscriptions: the cohorts that select a topic."""

from collections.abc import Iterator
from typing import Final

from ..messages.topic import TopicTrie
from .cohort import Cohort

MAX_REMEMBERED: Final = 65_536  # cohorts of all remembered topics: a search is slow with many patterns


class SubscriptionIndex:
    """All cohorts of a broker, by topic. What a search found is remembered until a cohort is added or removed."""

    def __init__(self) -> None:
        self._all: dict[Cohort, None] = {}
        self._by_topic: dict[str, dict[Cohort, None]] = {}
        self._by_pattern: TopicTrie[Cohort] = TopicTrie()
        self._remembered: dict[str, tuple[Cohort, ...]] = {}  # what searches found, by topic
        self._size = 0  # of _remembered: cohorts, plus one per topic

    def __iter__(self) -> Iterator[Cohort]:
        """Over a copy: cohorts may be added and removed meanwhile."""
        return iter(tuple(self._all))

    def matching(self, topic: str) -> tuple[Cohort, ...]:
        """The cohorts that select the topic."""
        found = self._remembered.get(topic)
        if found is None:
            found = self.find(topic)
            self._size += 1 + len(found)
            if self._size > MAX_REMEMBERED:
                self._forget()
            else:
                self._remembered[topic] = found
        return found

    def find(self, topic: str) -> tuple[Cohort, ...]:
        """The cohorts that select the topic, without remembering them: for callers that go through all topics."""
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
        self._remembered.clear()
        self._size = 0
