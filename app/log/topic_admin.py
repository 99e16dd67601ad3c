"""Configuring topics, and their state as clients see it."""

from collections.abc import Mapping
from typing import Final

import msgspec

from ..messages.topic import TopicFilter
from .changes import OnChange, ignore_change
from .log import Log
from .slices import Slices, sliced
from .topic_log import TopicLog, TopicState
from .trimmer import Trimmer

STATE_EFFORT: Final = 16  # as many things as a topic's state counts: its ends may have to be found in a file


class TopicAdmin:
    def __init__(self, log: Log, trimmer: Trimmer, on_change: OnChange = ignore_change) -> None:
        self._log = log
        self._trimmer = trimmer
        self._on_change = on_change

    def configure(self, name: str, changes: Mapping[str, float], now: float) -> None:
        """Change fields of the topic's Retention; a missing topic is created. Raises TopicLimit."""
        topic = self._log.make(name, now)
        topic.retention = msgspec.structs.replace(topic.retention, **changes)
        topic.pinned = True
        self._on_change("topic", (name,))
        self._trimmer.trim_by_age(topic, now)
        self._trimmer.trim(topic)
        self._log.schedule_check(topic)

    def reset(self, name: str) -> TopicLog:
        """Remove the settings of a topic that is about to be dropped. Raises NotFound."""
        topic = self._log.existing(name)
        topic.retention, topic.pinned = self._log.limits.retention, False
        self._on_change("topic", (name,))
        return topic

    def state(self, name: str, now: float) -> TopicState:
        """Raises NotFound."""
        self._trimmer.sweep(now)
        return self._log.existing(name).state()

    def states(self, topic_filter: TopicFilter | None, now: float) -> Slices[list[TopicState]]:
        """The state of every topic that the filter matches (None: of every topic), by name."""
        self._trimmer.sweep(now)
        topics, found = self._log.topics, list[TopicState]()
        effort = STATE_EFFORT if topic_filter is None else STATE_EFFORT * topic_filter.effort
        for names in sliced(sorted(topics), effort):
            there = (name for name in names if name in topics and (topic_filter is None or topic_filter.matches(name)))
            found += [topics[name].state() for name in there]
            yield
        return found
