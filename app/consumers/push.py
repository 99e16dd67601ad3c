"""A push consumer: leases are written to it as a stream, up to its credit."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final, Protocol

from ..fanout.encoder import LeaseEncoder
from ..fanout.presence import arrive
from ..fanout.sink import Sink
from ..limits.buffered_bytes import OutboundBudget
from ..limits.stall import StallWatch
from ..messages.lease import Lease, LeaseId, lease_id
from ..messages.position import Gap
from ..telemetry.counters import Counters
from .dispatcher import Consumer, GroupDispatcher


class ConsumerContext(Protocol):
    """What all push consumers of a broker share."""

    loop: AbstractEventLoop
    counters: Counters
    outbound: OutboundBudget
    stall_timeout: float  # seconds

    def remove(self, dispatcher: GroupDispatcher, consumer: Consumer) -> None:
        """The consumer takes no more leases."""


ASKED_FOR: Final = "timeout"  # the one reason to end that the consumer gave itself


class PushConsumer:
    """A push consumer holds at most `credit` leases at a time. ConsumerRegistry.push() makes it. The caller owns it,
    calls start() once the sink can take bytes, and detach() at the end."""

    __slots__ = (
        "_context",
        "_credit",
        "_dispatcher",
        "_excused",
        "_held",
        "_paused",
        "_stall",
        "_timeout",
        "client",
        "encoder",
        "expires",
        "holder",
        "lease",
        "presence",
        "sink",
    )  # fmt: skip
    bound = True

    def __init__(
        self,
        context: ConsumerContext,
        dispatcher: GroupDispatcher,
        encoder: LeaseEncoder,
        sink: Sink,
        *,
        credit: int,
        lease: float | None,
        expires: float,
        client: str | None = None,
        holder: str = "",
    ) -> None:
        self.sink = sink
        self.client = client
        self.holder = holder
        self.presence = arrive(holder)
        self.lease = lease
        self.expires = expires  # on the loop's clock
        self._context = context
        self._dispatcher = dispatcher
        self.encoder = encoder
        self._credit = credit
        self._held: dict[
            LeaseId, None
        ] = {}  # in the order in which they were handed out; they are returned in that order
        self._paused = False
        self._excused = False
        self._stall = StallWatch(sink, context.loop, context.stall_timeout, context.counters)
        self._timeout: TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self not in self._dispatcher.consumers

    @property
    def leased(self) -> int:
        return len(self._held)

    @property
    def capacity(self) -> int:
        return 0 if self._paused or self.closed else max(self._credit - len(self._held), 0)

    def gap_frame(self, gap: Gap | None) -> bytes:
        """The frame that reports the gap before any lease; empty if there is no gap."""
        frame = b"" if gap is None else self.encoder.gap(gap)
        if gap is None or not frame:
            return b""
        self._context.counters.report_gap(gap.missed)
        return self.encoder.join([frame])

    def start(self, gap: Gap | None = None) -> None:
        """Begin to receive leases. `gap`: a loss to report first."""
        if frame := self.gap_frame(gap):
            self.sink.write(frame)
        self._dispatcher.add_waiting(self)

    def end_in(self, seconds: float, reason: str) -> None:
        self._timeout = self._context.loop.call_later(seconds, self.end, reason)

    def pause(self) -> None:
        """The socket is full: no more leases until it drains. Idempotent."""
        if not (self._paused or self.closed):
            self._paused = True
            self._stall.start()

    def resume(self) -> None:
        """The socket has drained. Idempotent."""
        if self._paused and not self.closed:
            self._paused = False
            self._stall.stop()
            self._context.outbound.drained(self)
            self._wait()

    def deliver(self, leases: list[Lease]) -> None:
        ids = [lease_id(lease) for lease in leases]
        self._held |= dict.fromkeys(ids)
        self._dispatcher.hold(self, ids)
        data = self.encoder.join([self.encoder.encode(lease) for lease in leases])
        self._context.counters.deliver(len(leases), len(data))
        self.sink.write(data)
        if self._paused:
            self._context.outbound.add(self, len(data))

    def evict(self) -> None:
        """Cut it off because its client does not read."""
        if not self.closed:
            self._context.counters.evicted += 1
            self.sink.abort()

    def on_lease_over(self, lease: LeaseId) -> None:
        """The lease is over."""
        del self._held[lease]
        self._wait()

    def exhausted(self) -> None:
        pass

    def end(self, reason: str) -> None:
        """End it after what was written. Idempotent."""
        if not self.closed:
            self._credit = 0
            if reason != ASKED_FOR:
                self.excuse()
            self.sink.end(reason)

    def excuse(self) -> None:
        """The server ends it: the attempts that it holds do not count as failures."""
        self._excused = True

    def keep_alive(self) -> None:
        if self.encoder.keep_alive:
            self.sink.write(self.encoder.keep_alive)

    def detach(self) -> None:
        """The client has disconnected: return its leases, so that other consumers have the messages at once.
        Idempotent."""
        self._stall.stop()
        self._context.outbound.drained(self)
        if self._timeout is not None:
            self._timeout.cancel()
        if not self.closed:
            self._context.remove(self._dispatcher, self)
            held, self._held = self._held, {}
            self._dispatcher.holder_left(held, self._excused)

    def _wait(self) -> None:
        if self.capacity:
            self._dispatcher.add_waiting(self)
