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
        self.takers = 0  # of all crews
        self._crews: dict[tuple[str, str], GroupDispatcher] = {}

    async def pull(
        self, topic: str, group: str, count: int, seconds: float, lease: float | None, *, client: str | None = None
    ) -> list[Lease]:
        """At most `count` messages: those that are there, or the first that come within that time. Raises NotFound."""
        crew = self._dispatcher(topic, group)
        puller = PullRequest(crew, count, lease, client)
        self._register(crew, puller)
        try:
            await puller.wait(seconds)
        except BaseException:  # the client has left
            crew.give_back([lease_id(lease) for lease in puller.leases])
            raise
        finally:
            self.leave(crew, puller)
        if puller.reason == GROUP_DELETED:
            raise NotFound(f"topic {topic!r} has no group {group!r}: it was deleted")
        self.counters.deliver(len(puller.leases), sum(len(lease.message.data) for lease in puller.leases))
        return puller.leases

    def push(
        self, topic: str, group: str, form: LeaseEncoder, sink: Sink, *, credit: int, lease: float | None,
        max_age: float, client: str | None = None,
    ) -> PushConsumer:  # fmt: skip
        """A worker that counts from now on; start() lets it work."""
        crew = self._dispatcher(topic, group)
        expires = self.loop.time() + max_age
        worker = PushConsumer(self, crew, form, sink, credit=credit, lease=lease, expires=expires, client=client)
        self._register(crew, worker)
        return worker

    def count(self, topic: str, group: str) -> int:
        """How many work there, or wait to."""
        crew = self._crews.get((topic, group))
        return len(crew.takers) if crew else 0

    def _register(self, crew: GroupDispatcher, taker: Consumer) -> None:
        crew.takers.add(taker)
        self.takers += 1

    def leave(self, crew: GroupDispatcher, taker: Consumer) -> None:
        """It takes no more."""
        crew.remove(taker)
        self.takers -= 1
        self._left(taker.client)
        if not crew.takers:
            self._crews.pop((crew.topic, crew.group), None)

    def keep_alive(self) -> None:
        """Write keep-alive comments, and end the streams that are old enough."""
        now = self.loop.time()
        for worker in self._pushed():
            worker.keep_alive()
            if worker.expires <= now:
                worker.end("age")

    def pause(self) -> None:
        """Nobody gets anything more."""
        for crew in self._crews.values():
            crew.resting = True

    def end_all(self, reason: str) -> list[Callable[[], None]]:
        """For everyone who works or waits to, what ends it."""
        return [partial(taker.end, reason) for crew in self._crews.values() for taker in crew.takers]

    # What the log says

    def ready(self, topic: str, group: str) -> None:
        if crew := self._crews.get((topic, group)):
            crew.wake()

    def released(self, topic: str, group: str, lease: LeaseId) -> None:
        if crew := self._crews.get((topic, group)):
            crew.released(lease)

    def _dispatcher(self, topic: str, group: str) -> GroupDispatcher:
        crew = self._crews.get((topic, group))
        if crew is None:
            crew = self._crews[topic, group] = GroupDispatcher(self._engine, topic, group, self.loop, self._report)
        return crew

    def _pushed(self) -> list[PushConsumer]:
        return [taker for crew in self._crews.values() for taker in crew.takers if isinstance(taker, PushConsumer)]
