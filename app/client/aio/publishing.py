"""Publishing messages."""

from collections.abc import Iterable
from typing import Unpack, overload

from .. import publishing
from ..answers.messages import Published
from ..answers.scheduled import Scheduled
from ..publishing import Options, When
from ..wire import Duration, Time
from .caller import AsyncCaller


class AsyncPublishing(AsyncCaller):
    """Publishes messages, each once."""

    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: None = None, at: None = None, **options: Unpack[Options]
    ) -> Published: ...
    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: Duration, at: None = None, **options: Unpack[Options]
    ) -> Scheduled: ...
    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: None = None, at: Time, **options: Unpack[Options]
    ) -> Scheduled: ...
    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled: ...  # fmt: skip
    async def publish(
        self, topic: str, data: bytes | str, *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled:  # fmt: skip
        """Publish one message: bytes, or a text, which is sent in UTF-8. When this returns, the server has accepted it,
        as durably as the answer says. With `delay` or `at`, nobody gets it before that time.

        `event`: the event name that an EventSource sees. `delivery`: to `all` subscribers, or to exactly `one`.
        `retain`: False delivers it to live subscribers, and does not store it. `ttl`: after this time nobody gets it.
        `idempotency_key`: the same key on the same topic within two minutes stores nothing; by default a new one is
        made. `content_type`: by default `text/plain` if the message is UTF-8. `headers`: short texts that are kept
        with the message, by name, such as `traceparent`. `priority`: from 0, the default, to 9; a group hands out
        higher ones first. `order_key`: of the messages with the same key, a group hands out one at a time, in order.

            await client.publish("orders", json.dumps(order), content_type="application/json", ttl="1h")
        """
        return await self._runner.run(publishing.publish, self._connection, topic, data, When(delay, at), options)

    @overload
    async def publish_batch(
        self,
        topic: str,
        messages: Iterable[bytes | str],
        *,
        delay: None = None,
        at: None = None,
        **options: Unpack[Options],
    ) -> Published: ...
    @overload
    async def publish_batch(
        self,
        topic: str,
        messages: Iterable[bytes | str],
        *,
        delay: Duration,
        at: None = None,
        **options: Unpack[Options],
    ) -> Scheduled: ...
    @overload
    async def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: None = None, at: Time, **options: Unpack[Options]
    ) -> Scheduled: ...
    @overload
    async def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled: ...  # fmt: skip
    async def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled:  # fmt: skip
        """Publish several messages at once, all or none. They are stored as `application/json`, so a batch has no
        `content_type`. Raises ValueError for a message that is empty, contains a line feed or ends in a carriage
        return."""
        return await self._runner.run(
            publishing.publish_batch, self._connection, topic, messages, When(delay, at), options
        )

    async def copy(self, topic: str, id: str, to: str) -> Published:
        """Publish a message to another topic too, with its content type, event and headers. Raises NotFound."""
        return await self._runner.run(publishing.copy, self._connection, topic, id, to)
