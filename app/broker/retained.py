"""The messages that the log retains, for clients that request a page of them, or one."""

from asyncio import sleep
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ..errors import NotFound
from ..fanout.encoder import NOTIFICATION
from ..fanout.fanout import Fanout
from ..fanout.wakeup import Wakeup
from ..log.reading import Page
from ..messages.message import Id, Message
from ..messages.position import LATEST, Cursor, Start
from ..messages.topic import TopicFilter
from ..storage.engine import PAGE_BYTES, Engine
from ..telemetry.counters import Counters


class RetainedMessages:
    def __init__(self, engine: Engine, fanout: Fanout, counters: Counters) -> None:
        self._engine = engine
        self._fanout = fanout
        self._counters = counters

    async def get(self, topic: str, id: Id) -> Message:
        """The retained message with this id. Raises NotFound."""
        message = await self._engine.get(id)
        if message is None or message.topic != topic:
            raise NotFound(f"topic {topic!r} retains no message {id}: it never was there, or has gone since")
        return message

    async def page(
        self, topic_filter: TopicFilter, start: Start, limit: int, wait: float = 0.0, *,
        client: str | None = None, who: str = "",
    ) -> Page:  # fmt: skip
        """At most `limit` messages and about 1 MiB; if there is none, the first that arrive within `wait` seconds: so
        long the request counts as a subscriber. Messages of `delivery=one` are left out: they are for subscribers.
        Raises Draining, SubscriberLimit."""
        cursor = await self._engine.locate(topic_filter, start)
        with self._wakeup(topic_filter, client, who) if wait else nullcontext(None) as wakeup:
            page = await self._read(topic_filter, cursor, limit)
            if wakeup is not None and not page.messages and page.gap is None and await wakeup.wait(wait):
                page = await self._read(topic_filter, page.cursor, limit)
        if page.gap is not None:
            self._counters.report_gap(page.gap.missed)
        return page

    async def _read(self, topic_filter: TopicFilter, cursor: Cursor, limit: int) -> Page:
        """The next messages up to the head; or the next gap, with the messages right behind it."""
        head, left = self._fanout.head, PAGE_BYTES
        messages: list[Message] = []
        while True:
            page = await self._engine.read(topic_filter, cursor, limit=limit - len(messages), nbytes=left, take=False)
            if page.gap is not None and messages:
                return Page(messages, cursor)  # the gap belongs to the next page
            messages += page.messages
            left -= sum([len(message.data) for message in page.messages])
            cursor = page.cursor
            if page.gap is not None or cursor.seq >= head or len(messages) >= limit or left <= 0:
                return Page(messages, cursor, page.gap)
            await sleep(0)  # each read is bounded to a few milliseconds of work

    @contextmanager
    def _wakeup(self, topic_filter: TopicFilter, client: str | None, who: str) -> Iterator[Wakeup]:
        wakeup = Wakeup()
        subscriber = self._fanout.subscribe(topic_filter, NOTIFICATION, wakeup, client=client, who=who)
        try:
            subscriber.start(LATEST)
            yield wakeup
        finally:
            subscriber.detach()
