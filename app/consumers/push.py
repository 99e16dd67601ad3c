"""One consumer that work is pushed to: what it holds, and how much more it may have."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final, Protocol

from ..fanout.encoder import LeaseEncoder
from ..fanout.sink import Sink
from ..limits.buffered_bytes import OutboundBudget
from ..limits.stall import StallWatch
from ..messages.lease import Lease, LeaseId, lease_id
from ..messages.position import Gap
from ..telemetry.counters import Counters
from .dispatcher import Consumer, GroupDispatcher


class ConsumerContext(Protocol):
    """What the workers of a broker have in common."""

    loop: AbstractEventLoop
    counters: Counters
    outbound: OutboundBudget
    stall_timeout: float  # seconds

    def leave(self, dispatcher: GroupDispatcher, consumer: Consumer) -> None:
        """It takes no more."""


ASKED_FOR: Final = "timeout"  # the one end that a worker asks for itself


class PushConsumer:
    """It has at most `credit` leases at a time. Workers.work() makes it; the caller owns it, calls start() once the
    sink can take bytes, and close()s it."""

    __slots__ = (
        "_credit", "_dispatcher", "_excused", "_held", "_paused", "_stall", "_timeout", "_workplace", "client",
        "expires", "form", "lease", "sink",
    )  # fmt: skip
    bound = True

    def __init__(
        self,
        workplace: ConsumerContext,
        dispatcher: GroupDispatcher,
        form: LeaseEncoder,
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
        self._workplace = workplace
        self._dispatcher = dispatcher
        self.form = form
        self._credit = credit
        self._held: dict[LeaseId, None] = {}  # in the order they were given, in which they return
        self._paused = False
        self._excused = False
        self._stall = StallWatch(sink, workplace.loop, workplace.stall_timeout, workplace.counters)
        self._timeout: TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self not in self._dispatcher.consumers

    @property
    def capacity(self) -> int:
        return 0 if self._paused or self.closed else max(self._credit - len(self._held), 0)

    def tell(self, gap: Gap | None) -> bytes:
        """What it is told of that before anything else."""
        frame = b"" if gap is None else self.form.gap(gap)
        self._workplace.counters.gaps += bool(frame)
        return self.form.join([frame]) if frame else b""

    def start(self, gap: Gap | None = None) -> None:
        """`gap`: if it is to be told of one."""
        if told := self.tell(gap):
            self.sink.write(told)
        self._dispatcher.wait(self)

    def end_in(self, seconds: float, reason: str) -> None:
        self._timeout = self._workplace.loop.call_later(seconds, self.end, reason)

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
            self._workplace.outbound.drained(self)
            self._wait()

    def deliver(self, leases: list[Lease]) -> None:
        ids = [lease_id(lease) for lease in leases]
        self._held |= dict.fromkeys(ids)
        self._dispatcher.hold(self, ids)
        data = self.form.join([self.form.encode(lease) for lease in leases])
        self._workplace.counters.deliver(len(leases), len(data))
        self.sink.write(data)
        if self._paused:
            self._workplace.outbound.owe(self, len(data))

    def evict(self) -> None:
        """Cut it off: it has not taken what it was given."""
        if not self.closed:
            self._workplace.counters.evicted += 1
            self.sink.abort()

    def released(self, lease: LeaseId) -> None:
        """That lease is over."""
        del self._held[lease]
        self._wait()

    def exhausted(self) -> None:
        pass

    def end(self, reason: str) -> None:
        """End it in good order. Idempotent."""
        if not self.closed:
            self._credit = 0
            if reason != ASKED_FOR:
                self.excuse()
            self.sink.end(reason)

    def excuse(self) -> None:
        """The server ends it: what it holds has not failed."""
        self._excused = True

    def keep_alive(self) -> None:
        if self.form.keep_alive:
            self.sink.write(self.form.keep_alive)

    def detach(self) -> None:
        """The worker is gone: others may have at once what it holds. Idempotent."""
        self._stall.stop()
        self._workplace.outbound.drained(self)
        if self._timeout is not None:
            self._timeout.cancel()
        if not self.closed:
            self._workplace.leave(self._dispatcher, self)
            held, self._held = self._held, {}
            self._dispatcher.release(held, self._excused)

    def _wait(self) -> None:
        if self.capacity:
            self._dispatcher.wait(self)
