# Made from app/client/aio/topics.py by `python -m tests.client.generate_sync`: change that.

"""Managing topics."""

from ..answers.topics import Purged, TopicPage, TopicSort, TopicState
from ..wire import Duration, Since, duration, given, position, topic_path
from .caller import Caller


class Topics(Caller):
    """Shows topics, and changes them."""

    def topics(self, match: str | None = None) -> list[TopicState]:
        """All topics, or those that the pattern matches, sorted by name."""
        found = self._read(TopicPage, "GET", "topics", params=given(match=match))
        return found.topics

    def topic_page(
        self,
        match: str | None = None,
        *,
        search: str | None = None,
        sort: TopicSort = "name",
        after: str | None = None,
        limit: int = 100,
    ) -> TopicPage:
        """At most `limit` topics (1,000), sorted by name or with the greatest figure first. `search`: those whose names
        contain this text, in upper or lower case. Pass the page's `next` as `after` to read on."""
        query = given(match=match, search=search, sort=sort, after=after, limit=limit)
        return self._read(TopicPage, "GET", "topics", params=query)

    def topic(self, topic: str) -> TopicState:
        """Raises NotFound."""
        return self._read(TopicState, "GET", topic_path(topic))

    def set_topic(
        self,
        topic: str,
        *,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        max_age: Duration | None = None,
    ) -> TopicState:
        """Set how much of a topic is retained; None leaves a value as it is. Creates the topic if there is none."""
        age = None if max_age is None else duration(max_age)
        change = given(max_messages=max_messages, max_bytes=max_bytes, max_age=age)
        return self._read(TopicState, "PUT", topic_path(topic), json=change)

    def purge(self, topic: str, *, before: Since | None = None) -> int:
        """Delete the messages of a topic, also those that its groups hold, or those `before` an id or a time. Its
        settings and groups stay. Returns how many. Raises NotFound."""
        query = given(before=None if before is None else position(before))
        path = topic_path(topic, "purge")
        return (self._read(Purged, "POST", path, params=query)).purged

    def pause_topic(self, topic: str) -> TopicState:
        """Refuse publishes to the topic, until it is resumed. Raises NotFound."""
        return self._read(TopicState, "POST", topic_path(topic, "pause"))

    def resume_topic(self, topic: str) -> TopicState:
        """Accept publishes to the topic again. Raises NotFound."""
        return self._read(TopicState, "POST", topic_path(topic, "resume"))

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with its messages and groups. Raises NotFound if there is none; also if a repeated request
        finds it deleted."""
        self._insist("DELETE", topic_path(topic))
