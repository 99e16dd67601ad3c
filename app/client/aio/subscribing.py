"""Subscribing to topics, and reading what they retain."""

from collections.abc import Callable, Iterable

from .. import reading, streams
from ..answers.messages import Gap, Line, Message, Page
from ..feed import Feed
from ..wire import Duration, Since, position
from .caller import AsyncCaller
from .items import AsyncStream


class AsyncSubscribing(AsyncCaller):
    """Subscribes to topics, and reads what they retain."""

    def subscribe(
        self,
        topics: str | Iterable[str],
        *,
        since: Since = "latest",
        last_event_id: str | None = None,
        limit: int | None = None,
        retry_for: float | None = None,
        on_gap: Callable[[Gap], object] | None = None,
    ) -> AsyncStream[Message]:
        """Subscribe to topics and patterns: iterate over their messages in the order of the log.

        The subscription starts at `since`, or after the message `last_event_id`, and ends after `limit` messages. When
        the connection breaks or the server restarts, it reconnects and continues at its position. It gives up after
        `retry_for` seconds without contact (None: never). No message is lost, and none comes twice. If messages are
        gone nevertheless (retention deleted them, or the server had them in memory only), the iterator raises
        MessagesLost, or calls `on_gap` and continues.

            async with client.subscribe(["orders", "rooms.*"], since=saved_id) as messages:
                async for message in messages:
                    ...
        """
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        selection = streams.Selection(names, position(since), last_event_id, limit)
        source = streams.subscription(self._connection, selection, retry_for)
        return AsyncStream(self._runner, Feed(self._connection, source), on_gap)

    async def messages(
        self, topic: str, *, since: Since = "earliest", limit: int = 100, wait: Duration | None = None
    ) -> Page:
        """Read a page of the messages that a topic or pattern retains: at most `limit` messages (up to 1,000) and about
        1 MiB. Pass the page's `next` as `since` to read the next one. `wait`: how long to wait for the first message,
        at most a minute. Raises NotFound if there is no such topic."""
        return await self._runner.run(reading.page, self._connection, topic, since, limit, wait)

    async def message(self, topic: str, id: str) -> bytes:
        """The body of one message. Raises NotFound."""
        return await self._runner.run(reading.body, self._connection, topic, id)

    def export(
        self, topic: str = "**", *, since: Since = "earliest", on_gap: Callable[[Gap], object] | None = None
    ) -> AsyncStream[Line]:
        """Iterate over all messages that a topic or pattern retains now, oldest first, in the server's JSON: for a
        copy. Messages that wait for one subscriber (`delivery="one"`) are not exported. Gaps are handled as in
        `subscribe`."""
        source = reading.export(self._connection, topic, position(since))
        return AsyncStream(self._runner, Feed(self._connection, source), on_gap)
