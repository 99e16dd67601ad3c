"""The broker: the one interface of the core for the endpoints. It knows what every engine can do, and not which one it
has.
"""

from asyncio import Future, TimerHandle, get_running_loop
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from random import uniform
from time import time
from typing import Final, Self

import msgspec

from ..consumers.push import PushConsumer
from ..consumers.registry import ConsumerRegistry
from ..errors import PlainmqError
from ..fanout.encoder import Encoder, LeaseEncoder
from ..fanout.fanout import Fanout
from ..fanout.sink import Sink
from ..fanout.subscriber import Subscriber
from ..limits.admission import Admission
from ..limits.buffered_bytes import InboundBudget, OutboundBudget
from ..limits.drain import DrainSchedule
from ..limits.quotas import Quotas
from ..log.totals import Totals
from ..messages.lease import Action, Lease, LeaseId, Outcome
from ..messages.message import Draft, PublishResult, Receipt, Scheduled
from ..messages.position import Gap
from ..messages.topic import TopicFilter
from ..storage.engine import Changes, Engine, Queries
from ..telemetry.counters import Counters
from ..telemetry.loop_lag import LoopLag
from .attendance_reports import AttendanceReports
from .audience import Audience
from .batcher import PublishBatcher
from .directory import Directory
from .retained import RetainedMessages
from .siblings import NoSiblings, Siblings
from .stats import Stats
from .stats_viewer import StatsViewer


class Pulled(msgspec.Struct, frozen=True):
    """The leases of one pull. `gap`: messages that were lost before the group could begin with them; it is reported
    until the group has handed something out."""

    leases: list[Lease]
    gap: Gap | None


class Timing(msgspec.Struct, frozen=True):
    """In seconds: between keep-alive comments; until a stalled subscriber is cut off; the greatest age of an event
    stream; the longest that messages wait to be written together."""

    keep_alive: float = 15.0
    stall: float = 10.0
    stream_age: float = 3_600.0
    coalesce: float = 0.01


class Flow(msgspec.Struct, frozen=True):
    """In bytes, for all clients together: of requests that are still arriving, and of data that clients have not
    read."""

    unfinished: int = 256 << 20
    unsent: int = 256 << 20


_DEFAULT_TIMING: Final = Timing()


class Broker:
    """One broker on one event loop: `async with Broker(engine) as broker`."""

    def __init__(
        self, engine: Engine, timing: Timing = _DEFAULT_TIMING, max_subscribers: int = 10_000,
        quotas: Quotas | None = None, flow: Flow = Flow(),  # noqa: B008
    ) -> None:  # fmt: skip
        self._engine = engine
        self._timing = timing
        self._flow = flow
        self._timer: TimerHandle | None = None
        self.log: Queries = engine
        self.counters = Counters()
        self.quotas = quotas or Quotas()
        self.loop_lag = LoopLag()
        self.admission = Admission(max_subscribers, self.quotas, self.loop_lag)
        self.inbound = InboundBudget(flow.unfinished)
        self.siblings: Siblings = NoSiblings()
        self.started = 0.0  # Unix seconds
        self._refuse_when_draining = self.admission.refuse_when_draining

    async def __aenter__(self) -> Self:
        loop = self._loop = get_running_loop()
        self.started = time()
        engine, counters, stall = self._engine, self.counters, self._timing.stall
        outbound = self.outbound = OutboundBudget(self._flow.unsent, loop)
        fanout = self._fanout = Fanout(
            engine, loop, stall, counters, outbound, admission=self.admission, coalesce=self._timing.coalesce
        )
        consumers = self._consumers = ConsumerRegistry(
            engine, loop, stall, fanout.report, counters, outbound=outbound, admission=self.admission
        )
        await engine.open(fanout.deliver, consumers, fanout.offer_unclaimed)
        self._count_from = fanout.head = engine.head
        engine.on_replaced = self._on_log_replaced
        self.batcher = PublishBatcher(loop, self.publish_each)
        self.retained = RetainedMessages(engine, fanout, counters)
        self.directory = Directory(engine, fanout, consumers)
        self._attendance = AttendanceReports(engine, fanout, consumers, loop)
        self._attendance.start()
        self.audience = Audience(fanout, consumers)
        self._timer = loop.call_later(self._timing.keep_alive, self._tick)
        self.loop_lag.start(loop)
        self.stats = Stats(self, loop, fanout.report)
        self.stats.start()
        self._drain_schedule = DrainSchedule(loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drain()
        self._drain_schedule.finish()
        if self._timer is not None:
            self._timer.cancel()
        self._attendance.stop()
        self.loop_lag.stop()
        self.stats.stop()
        self._fanout.transit.finish()
        await self._engine.close()

    @property
    def changes(self) -> Changes:
        """The log, to change what it holds. Raises Draining."""
        self._refuse_when_draining()
        return self._engine

    def publish(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        """Accept drafts for one topic, with the same key and delay, all or none. The future is done once they are as
        durable as the engine promises. Raises Draining. The future fails with MessageTooLarge, TopicLimit or LogFull;
        then nothing was stored."""
        self._refuse_when_draining()
        return self._engine.append(drafts)

    def publish_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        """Accept drafts for one topic, without keys and delays. If they cannot all be accepted, each is tried by
        itself, and the result has one outcome per draft. Raises Draining. The future fails as that of publish() does.
        """
        self._refuse_when_draining()
        return self._engine.append_each(drafts)

    def subscribe(
        self, topic_filter: TopicFilter, encoder: Encoder, sink: Sink, aging: bool = False, limit: int | None = None, *,
        client: str | None = None, who: str = "",
    ) -> Subscriber:  # fmt: skip
        """A subscriber that misses nothing from now on. Call its start() once the sink can take bytes.

        It ends after `limit` messages and, if `aging`, at the stream age. The caller owns it and calls detach() at the
        end. `client`: whose quota of slots it uses (app/limits/quotas.py). `who`: its name for people.
        Raises Draining, SubscriberLimit.
        """
        return self._fanout.subscribe(topic_filter, encoder, sink, self._age(aging), limit, client=client, who=who)

    async def pull(
        self, topic: str, group: str, *, make: bool, count: int, wait: float = 0.0, lease: float | None = None,
        client: str | None = None, holder: str = "",
    ) -> Pulled:  # fmt: skip
        """Lease at most `count` messages and about 1 MiB for `lease` seconds (None: the group's ack_timeout); if none
        is ready, the first within `wait` seconds. If the caller is cancelled, nothing stays leased. `make`: as for
        changes.join(). `holder`: who gets the leases, for people. Raises Draining, SubscriberLimit, NotFound,
        TopicLimit, GroupLimit, LogFull, OptionInvalid."""
        self.admission.check_slots()
        gap = await self._engine.join(topic, group, make)
        leases = await self._consumers.pull(topic, group, count, wait, lease, client=client, holder=holder)
        if gap is not None:
            self.counters.report_gap(gap.missed)
        return Pulled(leases, gap)

    def push(
        self,
        topic: str,
        group: str,
        encoder: LeaseEncoder,
        sink: Sink,
        *,
        credit: int,
        lease: float | None = None,
        aging: bool = False,
        client: str | None = None,
        holder: str = "",
    ) -> PushConsumer:
        """A push consumer of an existing group, with at most `credit` leases at a time. Call its start() once the sink
        can take bytes. If `aging`, it ends at the stream age. The caller owns it and calls detach() at the end, which
        returns its leases. Raises Draining, SubscriberLimit."""
        return self._consumers.push(
            topic, group, encoder, sink, credit=credit, lease=lease, max_age=self._age(aging), client=client,
            holder=holder,
        )  # fmt: skip

    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None, *,
        reason: str | None = None,
    ) -> Future[list[Outcome]]:  # fmt: skip
        """Settle leases; also while the server is draining. `seconds`: the delay of a nack (None: it grows with the
        attempts), or the length of an extension (None: the group's ack_timeout). `reason`: why the work failed, for
        people. Fails with NotFound."""
        return self._engine.settle(topic, group, action, ids, seconds, reason=reason)

    # For the metrics and the statistics (app/web/api/prometheus.py, stats.py)

    def watch_stats(self, encode: Callable[[bytes], bytes], sink: Sink, *, client: str | None = None) -> StatsViewer:
        """A viewer of the statistics, to whose sink each sample is written, encoded from its JSON. Call its start()
        once the sink can take bytes. The caller owns it and calls detach() at the end. Raises Draining,
        SubscriberLimit."""
        self.admission.take_slots(client)
        return StatsViewer(
            self.stats, encode, sink, loop=self._loop, stall_timeout=self._timing.stall, counters=self.counters,
            on_leave=partial(self.admission.release_slots, client),
        )  # fmt: skip

    @property
    def published(self) -> int:
        """Messages accepted since the start: each has the log's next seq."""
        return self._fanout.head - self._count_from

    def _on_log_replaced(self) -> None:
        """All streams end: they come back with their ids, and are told what they have that is gone."""
        published = self.published
        for end in [end for part in (self._consumers, self._fanout) for end in part.end_all("failover")]:
            end()
        self._fanout.transit.forget()
        self._fanout.head = self._engine.head
        self._count_from = self._engine.head - published

    def subscribers(self) -> dict[str, int]:
        """The number of subscriptions of each kind, and of consumers, with pending pulls among them."""
        return self._fanout.count_by_kind() | {"worker": self._consumers.consumers}

    async def totals(self) -> Totals | None:
        """What the log holds; None if it cannot be asked now."""
        try:
            return await self._engine.totals(self._consumers.served | self._engine.elsewhere.served)
        except PlainmqError:
            return None

    def drain(self, spread: float = 0.0) -> None:
        """Refuse publishes and new subscribers. Once the accepted messages have been delivered, end all open streams
        within `spread` seconds. Idempotent."""
        if not self.admission.draining:
            self.admission.draining = True
            self._consumers.pause()
            ends = [end for part in (self._consumers, self._fanout, self.stats) for end in part.end_all("draining")]
            self._drain_schedule.begin(ends, spread, self._engine.caught_up())

    async def drained(self) -> None:
        """Wait until every stream has been ended."""
        await self._drain_schedule.wait()

    def _age(self, aging: bool) -> float:
        return self._timing.stream_age * uniform(0.9, 1.1) if aging else inf

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._timing.keep_alive, self._tick)
        self._fanout.keep_alive()
        self._consumers.keep_alive()
