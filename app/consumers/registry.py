"""The registry of consumers: the dispatchers of this server's groups, and what ends their consumers."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial

from ..errors import NotFound
from ..fanout.encoder import LeaseEncoder
from ..fanout.sink import Sink
from ..limits.admission import Admission
from ..limits.buffered_bytes import OutboundBudget
from ..messages.attendance import Consumers
from ..messages.lease import Lease, LeaseId, lease_id
from ..storage.engine import Engine
from ..telemetry.counters import Counters
from .dispatcher import GROUP_DELETED, Consumer, GroupDispatcher, Report
from .pull import PullRequest
from .push import PushConsumer


class ConsumerRegistry:
    """All consumers of a broker, by topic and group."""

    def __init__(
        self, engine: Engine, loop: AbstractEventLoop, stall_timeout: float, report: Report, counters: Counters, *,
        outbound: OutboundBudget, admission: Admission,
    ) -> None:  # fmt: skip
        self.loop = loop
        self.outbound = outbound
        self._admission = admission
        self.stall_timeout = stall_timeout
        self.counters = counters
        self._engine = engine
        self._report = report
        self.consumers = 0  # the number of all
        self._dispatchers: dict[tuple[str, str], GroupDispatcher] = {}

    async def pull(
        self, topic: str, group: str, count: int, seconds: float, lease: float | None, *, client: str | None = None,
        holder: str = "",
    ) -> list[Lease]:  # fmt: skip
        """Lease at most `count` messages: those that are ready, or the first within that time. Raises NotFound,
        Draining, SubscriberLimit."""
        self._admission.take_slots(client)
        dispatcher = self._dispatcher(topic, group)
        pull_request = PullRequest(dispatcher, count, lease, client, holder)
        self._register(dispatcher, pull_request)
        try:
            await pull_request.wait(seconds)
        except BaseException:  # the client has disconnected
            dispatcher.return_leases([lease_id(lease) for lease in pull_request.leases])
            raise
        finally:
            self.remove(dispatcher, pull_request)
        if pull_request.reason == GROUP_DELETED:
            raise NotFound(f"topic {topic!r} has no group {group!r}: it was deleted")
        self.counters.deliver(len(pull_request.leases), sum(len(lease.message.data) for lease in pull_request.leases))
        return pull_request.leases

    def push(
        self, topic: str, group: str, encoder: LeaseEncoder, sink: Sink, *, credit: int, lease: float | None,
        max_age: float, client: str | None = None, holder: str = "",
    ) -> PushConsumer:  # fmt: skip
        """A push consumer that is counted from now on. Its start() begins to hand out. Raises Draining,
        SubscriberLimit."""
        self._admission.take_slots(client)
        dispatcher = self._dispatcher(topic, group)
        expires = self.loop.time() + max_age
        consumer = PushConsumer(
            self, dispatcher, encoder, sink, credit=credit, lease=lease, expires=expires, client=client, holder=holder
        )
        self._register(dispatcher, consumer)
        return consumer

    @property
    def dispatchers(self) -> list[GroupDispatcher]:
        return [*self._dispatchers.values()]

    @property
    def served(self) -> frozenset[tuple[str, str]]:
        """The groups that have consumers at this server, by topic and name."""
        return frozenset(self._dispatchers)

    @property
    def counts(self) -> list[Consumers]:
        """The consumers at this server, by group."""
        return [Consumers(one.topic, one.group, len(one.consumers)) for one in self._dispatchers.values()]

    def count(self, topic: str, group: str) -> int:
        """The number of the group's consumers at this server."""
        dispatcher = self._dispatchers.get((topic, group))
        return len(dispatcher.consumers) if dispatcher else 0

    def _register(self, dispatcher: GroupDispatcher, consumer: Consumer) -> None:
        dispatcher.consumers.add(consumer)
        self.consumers += 1

    def remove(self, dispatcher: GroupDispatcher, consumer: Consumer) -> None:
        """The consumer takes no more leases."""
        dispatcher.remove(consumer)
        self.consumers -= 1
        self._admission.release_slots(consumer.client)
        if not dispatcher.consumers:
            self._dispatchers.pop((dispatcher.topic, dispatcher.group), None)

    def keep_alive(self) -> None:
        """Write keep-alive comments, and end the streams that have reached their age."""
        now = self.loop.time()
        for consumer in self._pushed():
            consumer.keep_alive()
            if consumer.expires <= now:
                consumer.end("age")

    def pause(self) -> None:
        """Hand out no more leases."""
        for dispatcher in self._dispatchers.values():
            dispatcher.paused = True

    def end_all(self, reason: str) -> list[Callable[[], None]]:
        """For every consumer, a function that ends it."""
        return [
            partial(consumer.end, reason)
            for dispatcher in self._dispatchers.values()
            for consumer in dispatcher.consumers
        ]

    # Called by the engine

    def ready(self, topic: str, group: str) -> None:
        if dispatcher := self._dispatchers.get((topic, group)):
            dispatcher.wake()

    def on_lease_over(self, topic: str, group: str, lease: LeaseId) -> None:
        if dispatcher := self._dispatchers.get((topic, group)):
            dispatcher.on_lease_over(lease)

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
