"""Who works: the workers of this server's groups, each with what it holds and how much more it may have.

A group's Crew hands out what the log leases, to those who wait, in the order in which they began to. Nobody asks again
and again: the log says when there may be something (`ready`) and when a lease is over (`ended`).
"""

from asyncio import AbstractEventLoop, CancelledError, Event, Future, Task, TimerHandle, shield, sleep, timeout, wait
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, Protocol

from .core.lease import Action, Lease, LeaseId, Outcome, lease_id
from .engines.base import BURST, PAGE_BYTES, Engine
from .errors import Draining, NotFound
from .frames import LeaseForm
from .limits.counts import Counts
from .limits.outflow import Outflow
from .limits.stall import StallWatch
from .sink import Sink

GONE: Final = "deleted"
IN_ONE_TURN: Final = 200  # claims, before others get their turn

Report = Callable[[str, BaseException], None]


class Taker(Protocol):
    """Somebody who waits for work."""

    @property
    def room(self) -> int:
        """How many more leases it may have now."""

    lease: float | None
    """Seconds of its leases; None: the group's ack_timeout."""

    client: str | None
    """Whose it is, in quotas."""

    def give(self, leases: list[Lease]) -> None: ...

    def nothing_more(self) -> None:
        """There is nothing for it now. It goes on waiting, unless it leaves."""

    def end(self, reason: str) -> None:
        """It will get no more."""


class Crew:
    """The workers of one group."""

    def __init__(self, engine: Engine, topic: str, group: str, loop: AbstractEventLoop, report: Report) -> None:
        self.topic = topic
        self.group = group
        self.takers: set[Taker] = set()
        self.resting = False
        self._engine = engine
        self._loop = loop
        self._report = report
        self._waiting: dict[Taker, None] = {}  # those with room, in the order in which they began to wait
        self._holders: dict[LeaseId, Worker] = {}
        self._dealing: Task[None] | None = None
        self._news = False  # there was some while it was dealing
        self._asked: tuple[Taker, Future[list[Lease]]] | None = None  # for whom the log is being asked
        self._over: set[LeaseId] = set()  # leases that ended while it was

    def wait(self, taker: Taker) -> None:
        """It has room."""
        self._waiting[taker] = None
        self.wake()

    def leave(self, taker: Taker) -> None:
        self.takers.discard(taker)
        self._waiting.pop(taker, None)

    def wake(self) -> None:
        """There may be something to hand out, or somebody to hand it to."""
        self._news = True
        if self._waiting and self._dealing is None and not self.resting:
            self._dealing = self._loop.create_task(self._deal())
            self._dealing.add_done_callback(self._dealt)

    async def answered(self, taker: Taker) -> None:
        """Wait until the log is not being asked for this one: what it gives must not be lost."""
        if self._asked is not None and self._asked[0] is taker:
            await wait([self._asked[1]])

    async def claim(self, count: int, lease: float | None) -> list[Lease]:
        """What is there now, for somebody who asks by himself."""
        claim = self._engine.claim(self.topic, self.group, count=count, octets=PAGE_BYTES, seconds=lease)
        try:
            return await shield(claim)
        except CancelledError:  # he has left while the log was asked
            claim.add_done_callback(self._claimed_for_nobody)
            raise

    def hold(self, worker: "Worker", leases: Collection[LeaseId]) -> None:
        self._holders |= dict.fromkeys(leases, worker)

    def ended(self, lease: LeaseId) -> None:
        if worker := self._holders.pop(lease, None):
            worker.ended(lease)
        elif self._asked is not None:
            self._over.add(lease)

    def release(self, held: Collection[LeaseId]) -> None:
        """Their worker is gone."""
        for lease in held:
            del self._holders[lease]
        self.give_back([*held])

    def give_back(self, ids: Sequence[LeaseId]) -> None:
        """Nobody works on them: others may have the messages at once."""
        if ids:
            self._engine.settle(self.topic, self.group, Action.RETURN, ids).add_done_callback(self._given_back)

    def end(self, reason: str) -> None:
        for taker in tuple(self.takers):
            taker.end(reason)

    async def _deal(self) -> None:
        """Hand out until nothing is left, or nobody waits: one message each in turn while several wait."""
        claims = 0
        while self._waiting:
            taker = next(iter(self._waiting))
            if not taker.room:  # it was held, or is over
                del self._waiting[taker]
                continue
            self._news = False
            leases = await self._ask(taker)
            if not leases:  # if there is news by now, it is dealt anew
                return
            self._give(taker, leases)
            claims += 1
            if claims % IN_ONE_TURN == 0:
                await sleep(0)

    async def _ask(self, taker: Taker) -> list[Lease]:
        """Leases for this one; without those that were over before they came."""
        count = 1 if len(self._waiting) > 1 else taker.room
        claim = self._engine.claim(self.topic, self.group, count=count, octets=BURST, seconds=taker.lease)
        self._asked = taker, claim
        try:
            leases = await claim
        finally:
            self._asked = None
            over, self._over = self._over, set()
        return [lease for lease in leases if lease_id(lease) not in over] if over else leases

    def _give(self, taker: Taker, leases: list[Lease]) -> None:
        self._waiting.pop(taker, None)
        if taker in self.takers:
            taker.give(leases)
            if taker.room:
                self._waiting[taker] = None
        else:  # it left while the log was asked
            self.give_back([lease_id(lease) for lease in leases])

    def _dealt(self, task: "Task[None]") -> None:
        self._dealing = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, NotFound):
            self.end(GONE)
        elif error is not None:
            self._report("workers were cut off: the log could not be asked for work", error)
            self.end("error")
        else:
            for taker in tuple(self._waiting):
                taker.nothing_more()
            if self._news:
                self.wake()

    def _claimed_for_nobody(self, claim: "Future[list[Lease]]") -> None:
        if not claim.cancelled() and claim.exception() is None:
            self.give_back([lease_id(lease) for lease in claim.result()])

    def _given_back(self, future: "Future[list[Outcome]]") -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, (Draining, NotFound)):  # then there is nobody to give them to
            self._report("leases were not given back; they end by themselves", error)


class Puller:
    """One request for up to `count` messages and about 1 MiB: it takes what is there, or waits for the first."""

    def __init__(self, crew: Crew, count: int, lease: float | None, client: str | None = None) -> None:
        self.client = client
        self.leases: list[Lease] = []
        self.lease = lease
        self.reason = ""  # why it was ended
        self._crew = crew
        self._count = count
        self._octets = 0
        self._over = Event()

    async def wait(self, seconds: float) -> None:
        """Until it has what it gets, or the time is over."""
        self.leases = await self._crew.claim(self._count, self.lease)
        if self.leases or not seconds:
            return
        self._crew.wait(self)
        try:
            async with timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            self._over.set()
        await self._crew.answered(self)

    @property
    def room(self) -> int:
        return 0 if self._over.is_set() or self._octets >= PAGE_BYTES else self._count - len(self.leases)

    def give(self, leases: list[Lease]) -> None:
        self.leases += leases
        self._octets += sum(len(lease.message.data) for lease in leases)
        if not self.room:
            self._over.set()

    def nothing_more(self) -> None:
        if self.leases:
            self._over.set()

    def end(self, reason: str) -> None:
        self.reason = reason
        self._over.set()


class Worker:
    """One consumer that work is pushed to: at most `credit` leases at a time. Workers.work() makes it; the caller owns
    it, calls start() once the sink can take bytes, and close()s it."""

    __slots__ = (
        "_credit", "_crew", "_held", "_paused", "_stall", "_timeout", "_workers", "client", "expires", "form", "lease",
        "sink",
    )  # fmt: skip

    def __init__(
        self,
        workers: "Workers",
        crew: Crew,
        form: LeaseForm,
        sink: Sink,
        *,
        credit: int,
        lease: float | None,
        expires: float,
        client: str | None = None,
    ) -> None:
        self.sink = sink
        self.client = client
        self.lease = lease
        self.expires = expires  # on the loop's clock
        self._workers = workers
        self._crew = crew
        self.form = form
        self._credit = credit
        self._held: dict[LeaseId, None] = {}  # in the order they were given, in which they return
        self._paused = False
        self._stall = StallWatch(sink, workers.loop, workers.stall_timeout, workers.counts)
        self._timeout: TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self not in self._crew.takers

    @property
    def room(self) -> int:
        return 0 if self._paused or self.closed else max(self._credit - len(self._held), 0)

    def start(self) -> None:
        self._crew.wait(self)

    def end_in(self, seconds: float, reason: str) -> None:
        self._timeout = self._workers.loop.call_later(seconds, self.end, reason)

    def pause(self) -> None:
        """The socket is full: no more until it drains. Idempotent."""
        if not (self._paused or self.closed):
            self._paused = True
            self._stall.start()

    def resume(self) -> None:
        """The socket has drained. Idempotent."""
        if self._paused and not self.closed:
            self._paused = False
            self._stall.stop()
            self._workers.outflow.settle(self)
            self._wait()

    def give(self, leases: list[Lease]) -> None:
        ids = [lease_id(lease) for lease in leases]
        self._held |= dict.fromkeys(ids)
        self._crew.hold(self, ids)
        data = self.form.wrap([self.form.encode(lease) for lease in leases])
        self._workers.counts.deliver(len(leases), len(data))
        self.sink.write(data)
        if self._paused:
            self._workers.outflow.add(self, len(data))

    def evict(self) -> None:
        """Cut it off: it has not taken what it was given."""
        if not self.closed:
            self._workers.counts.evicted += 1
            self.sink.abort()

    def ended(self, lease: LeaseId) -> None:
        """That lease is over."""
        del self._held[lease]
        self._wait()

    def nothing_more(self) -> None:
        pass

    def end(self, reason: str) -> None:
        """End it in good order. Idempotent."""
        if not self.closed:
            self._credit = 0
            self.sink.end(reason)

    def keep_alive(self) -> None:
        if self.form.keep_alive:
            self.sink.write(self.form.keep_alive)

    def close(self) -> None:
        """The worker is gone: others may have at once what it holds. Idempotent."""
        self._stall.stop()
        self._workers.outflow.settle(self)
        if self._timeout is not None:
            self._timeout.cancel()
        if not self.closed:
            self._workers.leave(self._crew, self)
            held, self._held = self._held, {}
            self._crew.release(held)

    def _wait(self) -> None:
        if self.room:
            self._crew.wait(self)


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
