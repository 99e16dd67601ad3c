# Made from app/client/aio/scheduled.py by `python -m tests.client.generate_sync`: change that.

"""Publishes that are not due yet."""

from ..answers.messages import Published
from ..answers.scheduled import ScheduledMessagePage, ScheduledPage, ScheduledPublish
from ..wire import given, scheduled_path
from .caller import Caller


class Scheduled(Caller):
    """Shows, cancels and publishes what has a delay or a time that is not due yet."""

    def scheduled_page(self, match: str | None = None, *, after: str | None = None, limit: int = 100) -> ScheduledPage:
        """At most `limit` (1,000) of the publishes with a delay or a time that are not due yet, of all topics or of
        those that the pattern matches, by their due time. Pass the page's `next` as `after` to read on."""
        query = given(match=match, after=after, limit=limit)
        return self._read(ScheduledPage, "GET", "scheduled", params=query)

    def scheduled(self, id: str) -> ScheduledPublish:
        """With the first page of its messages. Raises NotFound; also when it is due."""
        return self._read(ScheduledPublish, "GET", scheduled_path(id))

    def scheduled_messages(self, id: str, *, after: int | None = None, limit: int = 100) -> ScheduledMessagePage:
        """At most `limit` (1,000) of the messages of a scheduled publish, and about 1 MiB of their bodies. Pass the
        page's `next` as `after` to read on. Raises NotFound; also when it is due."""
        query = given(after=after, limit=limit)
        return self._read(ScheduledMessagePage, "GET", scheduled_path(id), params=query)

    def cancel_scheduled(self, id: str) -> None:
        """Cancel a scheduled publish: it is never published. Raises NotFound; also if a repeated request finds it
        cancelled."""
        self._insist("DELETE", scheduled_path(id))

    def publish_scheduled(self, id: str) -> Published:
        """Publish a scheduled publish now. Raises NotFound; also if a repeated request finds it published."""
        return self._read(Published, "POST", scheduled_path(id, "publish"))
