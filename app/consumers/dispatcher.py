"""A group's dispatcher: what the log leases goes to those who wait, in the order in which they began to.

Nobody asks again and again: the log says when there may be something (`wake`) and when a lease is over (`ended`).
"""

from asyncio import AbstractEventLoop, CancelledError, Future, Task, shield, sleep, wait
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from ..errors import Draining, LogFull, NotFound
from ..messages.lease import Action, Lease, LeaseId, Outcome, lease_id
from ..storage.engine import BURST, PAGE_BYTES, Engine

GROUP_DELETED: Final = "deleted"
IN_ONE_TURN: Final = 200  # claims, before others get their turn

Report = Callable[[str, BaseException], None]


class Consumer(Protocol):
    """Somebody who waits for work."""

    @property
    def capacity(self) -> int:
        """How many more leases it may have now."""

    lease: float | None
    """Seconds of its leases; None: the group's ack_timeout."""

    client: str | None
    """Whose it is, in quotas."""

    bound: bool
    """Whether its leases end with its connection."""

    def deliver(self, leases: list[Lease]) -> None: ...

    def exhausted(self) -> None:
        """There is nothing for it now. It goes on waiting, unless it leaves."""

    def end(self, reason: str) -> None:
        """It will get no more."""


class LeaseHolder(Protocol):
    """Somebody who keeps leases until they are over."""

    def released(self, lease: LeaseId) -> None:
        """That one is over."""


class GroupDispatcher:
    """The workers of one group."""

    def __init__(self, engine: Engine, topic: str, group: str, loop: AbstractEventLoop, report: Report) -> None:
        self.topic = topic
        self.group = group
        self.consumers: set[Consumer] = set()
        self.resting = False
        self._engine = engine
        self._loop = loop
        self._report = report
        self._waiting: dict[Consumer, None] = {}  # those with room, in the order in which they began to wait
        self._holders: dict[LeaseId, LeaseHolder] = {}
        self._dealing: Task[None] | None = None
        self._news = False  # there was some while it was dealing
        self._asked: tuple[Consumer, Future[list[Lease]]] | None = None  # for whom the log is being asked
        self._over: set[LeaseId] = set()  # leases that ended while it was

    def wait(self, consumer: Consumer) -> None:
        """It has room."""
        self._waiting[consumer] = None
        self.wake()

    def remove(self, consumer: Consumer) -> None:
        self.consumers.discard(consumer)
        self._waiting.pop(consumer, None)

    def wake(self) -> None:
        """There may be something to hand out, or somebody to hand it to."""
        self._news = True
        if self._waiting and self._dealing is None and not self.resting:
            self._dealing = self._loop.create_task(self._dispatch())
            self._dealing.add_done_callback(self._dispatched)

    async def answered(self, consumer: Consumer) -> None:
        """Wait until the log is not being asked for this one: what it gives must not be lost."""
        if self._asked is not None and self._asked[0] is consumer:
            await wait([self._asked[1]])

    async def claim(self, count: int, lease: float | None) -> list[Lease]:
        """What is there now, for somebody who asks by himself."""
        claim = self._engine.claim(self.topic, self.group, count=count, nbytes=PAGE_BYTES, seconds=lease)
        try:
            return await shield(claim)
        except CancelledError:  # he has left while the log was asked
            claim.add_done_callback(self._claimed_for_nobody)
            raise

    def hold(self, holder: LeaseHolder, leases: Collection[LeaseId]) -> None:
        self._holders |= dict.fromkeys(leases, holder)

    def released(self, lease: LeaseId) -> None:
        if holder := self._holders.pop(lease, None):
            holder.released(lease)
        elif self._asked is not None:
            self._over.add(lease)

    def release(self, held: Collection[LeaseId], excused: bool) -> None:
        """Their holder is gone."""
        for lease in held:
            del self._holders[lease]
        self.give_back([*held], excused)

    def give_back(self, ids: Sequence[LeaseId], excused: bool = False) -> None:
        """Nobody works on them: others may have the messages at once. `excused`: because the server ended it; then the
        jobs have not failed."""
        if ids:
            action = Action.RELEASE if excused or self.resting else Action.RETURN
            self._engine.settle(self.topic, self.group, action, ids).add_done_callback(self._given_back)

    def end(self, reason: str) -> None:
        for consumer in tuple(self.consumers):
            consumer.end(reason)

    async def _dispatch(self) -> None:
        """Hand out until nothing is left, or nobody waits: one message each in turn while several wait."""
        claims = 0
        while self._waiting:
            consumer = next(iter(self._waiting))
            if not consumer.capacity:  # it was held, or is over
                del self._waiting[consumer]
                continue
            self._news = False
            leases = await self._ask(consumer)
            if not leases:  # if there is news by now, it is dealt anew
                return
            self._deliver(consumer, leases)
            claims += 1
            if claims % IN_ONE_TURN == 0:
                await sleep(0)

    async def _ask(self, consumer: Consumer) -> list[Lease]:
        """Leases for this one; without those that were over before they came."""
        count = 1 if len(self._waiting) > 1 else consumer.capacity
        claim = self._engine.claim(
            self.topic, self.group, count=count, nbytes=BURST, seconds=consumer.lease, bound=consumer.bound
        )
        self._asked = consumer, claim
        try:
            leases = await claim
        finally:
            self._asked = None
            over, self._over = self._over, set()
        return [lease for lease in leases if lease_id(lease) not in over] if over else leases

    def _deliver(self, consumer: Consumer, leases: list[Lease]) -> None:
        self._waiting.pop(consumer, None)
        if consumer in self.consumers:
            consumer.deliver(leases)
            if consumer.capacity:
                self._waiting[consumer] = None
        else:  # it left while the log was asked
            self.give_back([lease_id(lease) for lease in leases])

    def _dispatched(self, task: "Task[None]") -> None:
        self._dealing = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, NotFound):
            self.end(GROUP_DELETED)
        elif error is not None and not isinstance(error, LogFull):  # then who waits does so until there is room
            self._report("workers were cut off: the log could not be asked for work", error)
            self.end("error")
        else:
            for consumer in tuple(self._waiting):
                consumer.exhausted()
            if self._news:
                self.wake()

    def _claimed_for_nobody(self, claim: "Future[list[Lease]]") -> None:
        if not claim.cancelled() and claim.exception() is None:
            self.give_back([lease_id(lease) for lease in claim.result()])

    def _given_back(self, future: "Future[list[Outcome]]") -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, (Draining, NotFound)):  # then there is nobody to give them to
            self._report("leases were not given back; they end by themselves", error)
