"""Who works: the crews of this server's groups, and what ends them."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial

from .core.lease import Lease, LeaseId, lease_id
from .crew import GONE, Crew, Report, Taker
from .engines.base import Engine
from .errors import NotFound
from .frames import LeaseForm
from .limits.counts import Counts
from .limits.outflow import Outflow
from .puller import Puller
from .sink import Sink
from .worker import Worker


class Workers:
    """All crews of a broker."""

    def __init__(
        self, engine: Engine, loop: AbstractEventLoop, stall_timeout: float, report: Report, counts: Counts, *,
        outflow: Outflow, left: Callable[[str | None], None] = lambda _client: None,
    ) -> None:  # fmt: skip
        """`left` hears of each taker that goes, whose it was."""
        self.loop = loop
        self.outflow = outflow
        self._left = left
        self.stall_timeout = stall_timeout
        self.counts = counts
        self._engine = engine
        self._report = report
        self.takers = 0  # of all crews
        self._crews: dict[tuple[str, str], Crew] = {}

    async def pull(
        self, topic: str, group: str, count: int, seconds: float, lease: float | None, *, client: str | None = None
    ) -> list[Lease]:
        """At most `count` messages: those that are there, or the first that come within that time. Raises NotFound."""
        crew = self._crew(topic, group)
        puller = Puller(crew, count, lease, client)
        self._enter(crew, puller)
        try:
            await puller.wait(seconds)
        except BaseException:  # the client has left
            crew.give_back([lease_id(lease) for lease in puller.leases])
            raise
        finally:
            self.leave(crew, puller)
        if puller.reason == GONE:
            raise NotFound(f"topic {topic!r} has no group {group!r}: it was deleted")
        self.counts.deliver(len(puller.leases), sum(len(lease.message.data) for lease in puller.leases))
        return puller.leases

    def work(
        self, topic: str, group: str, form: LeaseForm, sink: Sink, *, credit: int, lease: float | None, max_age: float,
        client: str | None = None,
    ) -> Worker:  # fmt: skip
        """A worker that counts from now on; start() lets it work."""
        crew = self._crew(topic, group)
        expires = self.loop.time() + max_age
        worker = Worker(self, crew, form, sink, credit=credit, lease=lease, expires=expires, client=client)
        self._enter(crew, worker)
        return worker

    def count(self, topic: str, group: str) -> int:
        """How many work there, or wait to."""
        crew = self._crews.get((topic, group))
        return len(crew.takers) if crew else 0

    def _enter(self, crew: Crew, taker: Taker) -> None:
        crew.takers.add(taker)
        self.takers += 1

    def leave(self, crew: Crew, taker: Taker) -> None:
        """It takes no more."""
        crew.leave(taker)
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

    def rest(self) -> None:
        """Nobody gets anything more."""
        for crew in self._crews.values():
            crew.resting = True

    def ends(self, reason: str) -> list[Callable[[], None]]:
        """For everyone who works or waits to, what ends it."""
        return [partial(taker.end, reason) for crew in self._crews.values() for taker in crew.takers]

    # What the log says

    def ready(self, topic: str, group: str) -> None:
        if crew := self._crews.get((topic, group)):
            crew.wake()

    def ended(self, topic: str, group: str, lease: LeaseId) -> None:
        if crew := self._crews.get((topic, group)):
            crew.ended(lease)

    def _crew(self, topic: str, group: str) -> Crew:
        crew = self._crews.get((topic, group))
        if crew is None:
            crew = self._crews[topic, group] = Crew(self._engine, topic, group, self.loop, self._report)
        return crew

    def _pushed(self) -> list[Worker]:
        return [taker for crew in self._crews.values() for taker in crew.takers if isinstance(taker, Worker)]
