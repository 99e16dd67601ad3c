"""Configuring topics, and the state of one as clients see it."""

from collections.abc import Mapping

import msgspec

from .changes import OnChange, ignore_change
from .log import Log
from .topic_log import TopicLog, TopicState
from .trimmer import Trimmer


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

    def pause(self, name: str, paused: bool) -> None:
        """Refuse publishes to the topic until it is resumed: also those that are delayed, and dead letters, which wait.
        Raises NotFound."""
        topic = self._log.existing(name)
        topic.paused = paused
        self._on_change("topic", (name,))
        self._log.schedule_check(topic)

    def use_default(self, topic: TopicLog) -> None:
        """Give a topic without settings of its own the default retention."""
        if not topic.pinned and self._log.topics.get(topic.name) is topic:
            topic.retention = self._log.limits.retention
            self._trimmer.check_bounds(topic)
            self._log.schedule_check(topic)

    def reset(self, name: str) -> TopicLog:
        """Remove the settings of a topic that is about to be dropped. Raises NotFound."""
        topic = self._log.existing(name)
        topic.retention, topic.pinned, topic.paused = self._log.limits.retention, False, False
        self._on_change("topic", (name,))
        return topic

    def state(self, name: str, now: float) -> TopicState:
        """Raises NotFound."""
        return self._log.existing(name).state(now)
