"""The index of topic filters: which of many select a topic."""

from collections.abc import Hashable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from .topic import TopicFilter, TopicTrie

MAX_REMEMBERED: Final = 65_536  # items of all remembered topics: a search is slow with many patterns


class Filtered(Hashable, Protocol):
    """Something that selects topics."""

    topic_filter: TopicFilter


T = TypeVar("T", bound=Filtered)


class FilterIndex(Generic[T]):
    """Items by topic. What a search found is remembered until an item is added or removed."""

    def __init__(self) -> None:
        self._all: dict[T, None] = {}
        self._by_topic: dict[str, dict[T, None]] = {}
        self._by_pattern: TopicTrie[T] = TopicTrie()
        self._remembered: dict[str, tuple[T, ...]] = {}  # what searches found, by topic
        self._size = 0  # of _remembered: items, plus one per topic

    def __iter__(self) -> Iterator[T]:
        """Over a copy: items may be added and removed meanwhile."""
        return iter(tuple(self._all))

    def matching(self, topic: str) -> tuple[T, ...]:
        """The items that select the topic."""
        found = self._remembered.get(topic)
        if found is None:
            found = self.find(topic)
            self._size += 1 + len(found)
            if self._size > MAX_REMEMBERED:
                self._forget()
            else:
                self._remembered[topic] = found
        return found

    def find(self, topic: str) -> tuple[T, ...]:
        """The items that select the topic, without remembering them: for callers that go through all topics."""
        exact, matching = self._by_topic.get(topic, ()), self._by_pattern.matching(topic)
        return tuple(dict.fromkeys([*exact, *matching]))

    def add(self, item: T) -> None:
        self._forget()
        self._all[item] = None
        for topic in item.topic_filter.topics:
            self._by_topic.setdefault(topic, {})[item] = None
        for pattern in item.topic_filter.patterns:
            self._by_pattern.add(pattern, item)

    def discard(self, item: T) -> None:
        self._forget()
        del self._all[item]
        for topic in item.topic_filter.topics:
            del self._by_topic[topic][item]
            if not self._by_topic[topic]:
                del self._by_topic[topic]
        for pattern in item.topic_filter.patterns:
            self._by_pattern.discard(pattern, item)

    def _forget(self) -> None:
        self._remembered.clear()
        self._size = 0
