"""A group's dispatcher: it claims leases from the log for the consumers that wait, in the order in which they began to.

It does not poll: the log calls it when there may be work (`wake`) and when a lease is over (`on_lease_over`). Only
while the log fails, it tries again.
"""

from asyncio import AbstractEventLoop, CancelledError, Future, Task, shield, sleep, wait
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from ..errors import Draining, LogFull, NotFound, OutcomeUnknown, StorageFailed
from ..fanout.presence import Presence
from ..fanout.sink import BURST
from ..messages.lease import Action, Lease, LeaseId, Outcome, lease_id
from ..storage.engine import PAGE_BYTES, Engine

GROUP_DELETED: Final = "deleted"
_GROUP_GONE: Final = (Draining, NotFound)  # there is no group to return leases to
_PASSING: Final = (LogFull, StorageFailed, OutcomeUnknown)  # consumers wait until the log has room, or is back
RETRY: Final = 1.0  # seconds until work is asked for again
CLAIMS_PER_TURN: Final = 200  # then other tasks run

Report = Callable[[str, BaseException], None]


class Consumer(Protocol):
    """A consumer as its group's dispatcher sees it."""

    @property
    def capacity(self) -> int:
        """How many more leases it can take now."""

    @property
    def leased(self) -> int:
        """How many leases it has now."""

    lease: float | None
    """Seconds that its leases last; None: the group's ack_timeout."""

    client: str | None
    """Its owner in quotas."""

    holder: str
    """Its name for people, as the holder of its leases."""

    presence: Presence

    bound: bool
    """True if its leases end with its connection."""

    def deliver(self, leases: list[Lease]) -> None: ...

    def exhausted(self) -> None:
        """There is no work now. The consumer goes on waiting, unless it leaves."""

    def end(self, reason: str) -> None:
        """The consumer gets no more leases."""


class LeaseHolder(Protocol):
    """A consumer that holds leases until they are over."""

    def on_lease_over(self, lease: LeaseId) -> None:
        """The lease is over: settled, expired or deleted."""


class GroupDispatcher:
    """Hands out the messages of one group."""

    def __init__(self, engine: Engine, topic: str, group: str, loop: AbstractEventLoop, report: Report) -> None:
        self.topic = topic
        self.group = group
        self.consumers: set[Consumer] = set()
        self.paused = False
        self._engine = engine
        self._loop = loop
        self._report = report
        self._waiting: dict[Consumer, None] = {}  # those with capacity, in the order in which they began to wait
        self._holders: dict[LeaseId, LeaseHolder] = {}
        self._task: Task[None] | None = None
        self._woken = False  # wake() was called since the last claim
        self._claiming: tuple[Consumer, Future[list[Lease]]] | None = None  # the claim under way, and for whom
        self._ended_early: set[LeaseId] = set()  # leases that were over before their claim returned

    def add_waiting(self, consumer: Consumer) -> None:
        """The consumer has capacity."""
        self._waiting[consumer] = None
        self.wake()

    def remove(self, consumer: Consumer) -> None:
        self.consumers.discard(consumer)
        self._waiting.pop(consumer, None)

    def wake(self) -> None:
        """There may be new work, or new capacity."""
        self._woken = True
        if self._waiting and self._task is None and not self.paused:
            self._task = self._loop.create_task(self._dispatch())
            self._task.add_done_callback(self._on_dispatched)

    async def wait_for_claim(self, consumer: Consumer) -> None:
        """Wait for a claim that is under way for this consumer: its leases must not be lost."""
        if self._claiming is not None and self._claiming[0] is consumer:
            await wait([self._claiming[1]])

    async def claim(self, count: int, lease: float | None, holder: str) -> list[Lease]:
        """Lease at most `count` messages that are ready now, without waiting."""
        claim = self._engine.claim(self.topic, self.group, count=count, nbytes=PAGE_BYTES, seconds=lease, holder=holder)
        try:
            return await shield(claim)
        except CancelledError:  # the client has left before the log answered
            claim.add_done_callback(self._return_claimed)
            raise

    def hold(self, holder: LeaseHolder, leases: Collection[LeaseId]) -> None:
        self._holders |= dict.fromkeys(leases, holder)

    def on_lease_over(self, lease: LeaseId) -> None:
        if holder := self._holders.pop(lease, None):
            holder.on_lease_over(lease)
        elif self._claiming is not None:
            self._ended_early.add(lease)

    def holder_left(self, held: Collection[LeaseId], excused: bool) -> None:
        """The holder of these leases is gone."""
        for lease in held:
            del self._holders[lease]
        self.return_leases([*held], excused)

    def return_leases(self, ids: Sequence[LeaseId], excused: bool = False) -> None:
        """End these leases: other consumers may have the messages at once. `excused`: the server ended the consumer, so
        the attempt does not count as a failure."""
        if ids:
            action = Action.EXCUSE if excused or self.paused else Action.RETURN
            self._engine.settle(self.topic, self.group, action, ids).add_done_callback(self._on_returned)

    def end(self, reason: str) -> None:
        for consumer in tuple(self.consumers):
            consumer.end(reason)

    async def _dispatch(self) -> None:
        """Hand out messages until none is left or no consumer waits: one each in turn while several wait."""
        claims = 0
        while self._waiting:
            consumer = next(iter(self._waiting))
            if not consumer.capacity:  # it was paused or closed meanwhile
                del self._waiting[consumer]
                continue
            self._woken = False
            leases = await self._claim_for(consumer)
            if not leases:  # if wake() was called meanwhile, _on_dispatched begins again
                return
            self._deliver(consumer, leases)
            claims += 1
            if claims % CLAIMS_PER_TURN == 0:
                await sleep(0)

    async def _claim_for(self, consumer: Consumer) -> list[Lease]:
        """Claim leases for the consumer. Those that were over before the claim returned are left out."""
        count = 1 if len(self._waiting) > 1 else consumer.capacity
        claim = self._engine.claim(
            self.topic, self.group, count=count, nbytes=BURST, seconds=consumer.lease, bound=consumer.bound,
            holder=consumer.holder,
        )  # fmt: skip
        self._claiming = consumer, claim
        try:
            leases = await claim
        finally:
            self._claiming = None
            over, self._ended_early = self._ended_early, set()
        return [lease for lease in leases if lease_id(lease) not in over] if over else leases

    def _deliver(self, consumer: Consumer, leases: list[Lease]) -> None:
        self._waiting.pop(consumer, None)
        if consumer in self.consumers:
            try:
                consumer.deliver(leases)
            except Exception as error:  # the group's other consumers must still get work
                self._report("a consumer was cut off: its sink failed", error)
                consumer.end("error")
            if consumer.capacity:
                self._waiting[consumer] = None
        else:  # it left before the log answered
            self.return_leases([lease_id(lease) for lease in leases])

    def _on_dispatched(self, task: "Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, NotFound):
            self.end(GROUP_DELETED)
        elif isinstance(error, _PASSING):
            self._loop.call_later(RETRY, self.wake)
        elif error is not None:
            self._report("consumers were cut off: the log could not be asked for work", error)
            self.end("error")
        else:
            for consumer in tuple(self._waiting):
                consumer.exhausted()
            if self._woken:
                self.wake()

    def _return_claimed(self, claim: "Future[list[Lease]]") -> None:
        if not claim.cancelled() and claim.exception() is None:
            self.return_leases([lease_id(lease) for lease in claim.result()])

    def _on_returned(self, future: "Future[list[Outcome]]") -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, _GROUP_GONE):
            self._report("leases were not given back; they end by themselves", error)
