"""Who works: the crews of this server's groups, and what ends them."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial

from ..errors import NotFound
from ..fanout.encoder import LeaseEncoder
from ..fanout.sink import Sink
from ..limits.buffered_bytes import OutboundBudget
from ..messages.lease import Lease, LeaseId, lease_id
from ..storage.engine import Engine
from ..telemetry.counters import Counters
from .dispatcher import GROUP_DELETED, Consumer, GroupDispatcher, Report
from .pull import PullRequest
from .push import PushConsumer


class ConsumerRegistry:
    """All crews of a broker."""

    def __init__(
        self, engine: Engine, loop: AbstractEventLoop, stall_timeout: float, report: Report, counters: Counters, *,
        outbound: OutboundBudget, left: Callable[[str | None], None] = lambda _client: None,
    ) -> None:  # fmt: skip
        """`left` hears of each taker that goes, whose it was."""
        self.loop = loop
        self.outbound = outbound
        self._left = left
        self.stall_timeout = stall_timeout
        self.counters = counters
        self._engine = engine
        self._report = report
        self.consumers = 0  # of all crews
        self._dispatchers: dict[tuple[str, str], GroupDispatcher] = {}

    async def pull(
        self, topic: str, group: str, count: int, seconds: float, lease: float | None, *, client: str | None = None
    ) -> list[Lease]:
        """At most `count` messages: those that are there, or the first that come within that time. Raises NotFound."""
        dispatcher = self._dispatcher(topic, group)
        pull_request = PullRequest(dispatcher, count, lease, client)
        self._register(dispatcher, pull_request)
        try:
            await pull_request.wait(seconds)
        except BaseException:  # the client has left
            dispatcher.give_back([lease_id(lease) for lease in pull_request.leases])
            raise
        finally:
            self.leave(dispatcher, pull_request)
        if pull_request.reason == GROUP_DELETED:
            raise NotFound(f"topic {topic!r} has no group {group!r}: it was deleted")
        self.counters.deliver(len(pull_request.leases), sum(len(lease.message.data) for lease in pull_request.leases))
        return pull_request.leases

    def push(
        self, topic: str, group: str, form: LeaseEncoder, sink: Sink, *, credit: int, lease: float | None,
        max_age: float, client: str | None = None,
    ) -> PushConsumer:  # fmt: skip
        """A worker that counts from now on; start() lets it work."""
        dispatcher = self._dispatcher(topic, group)
        expires = self.loop.time() + max_age
        worker = PushConsumer(self, dispatcher, form, sink, credit=credit, lease=lease, expires=expires, client=client)
        self._register(dispatcher, worker)
        return worker

    def count(self, topic: str, group: str) -> int:
        """How many work there, or wait to."""
        dispatcher = self._dispatchers.get((topic, group))
        return len(dispatcher.consumers) if dispatcher else 0

    def _register(self, dispatcher: GroupDispatcher, consumer: Consumer) -> None:
        dispatcher.consumers.add(consumer)
        self.consumers += 1

    def leave(self, dispatcher: GroupDispatcher, consumer: Consumer) -> None:
        """It takes no more."""
        dispatcher.remove(consumer)
        self.consumers -= 1
        self._left(consumer.client)
        if not dispatcher.consumers:
            self._dispatchers.pop((dispatcher.topic, dispatcher.group), None)

    def keep_alive(self) -> None:
        """Write keep-alive comments, and end the streams that are old enough."""
        now = self.loop.time()
        for worker in self._pushed():
            worker.keep_alive()
            if worker.expires <= now:
                worker.end("age")

    def pause(self) -> None:
        """Nobody gets anything more."""
        for dispatcher in self._dispatchers.values():
            dispatcher.resting = True

    def end_all(self, reason: str) -> list[Callable[[], None]]:
        """For everyone who works or waits to, what ends it."""
        return [
            partial(consumer.end, reason)
            for dispatcher in self._dispatchers.values()
            for consumer in dispatcher.consumers
        ]

    # What the log says

    def ready(self, topic: str, group: str) -> None:
        if dispatcher := self._dispatchers.get((topic, group)):
            dispatcher.wake()

    def released(self, topic: str, group: str, lease: LeaseId) -> None:
        if dispatcher := self._dispatchers.get((topic, group)):
            dispatcher.released(lease)

    def _dispatcher(self, topic: str, group: str) -> GroupDispatcher:
        dispatcher = self._dispatchers.get((topic, group))
        if dispatcher is None:
            dispatcher = self._dispatchers[topic, group] = GroupDispatcher(
                self._engine, topic, group, self.loop, self._report
            )
        return dispatcher

    def _pushed(self) -> list[PushConsumer]:
        return [
            consumer
            for dispatcher in self._dispatchers.values()
            for consumer in dispatcher.consumers
            if isinstance(consumer, PushConsumer)
        ]
