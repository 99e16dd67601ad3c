"""The broker: the one interface of the core for the endpoints. It knows what every engine can do, and not which one it
has.
"""

from asyncio import Future, TimerHandle, get_running_loop, sleep
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from math import inf
from random import uniform
from time import time
from typing import Any, Final, Self

import msgspec

from ..consumers.push import PushConsumer
from ..consumers.registry import ConsumerRegistry
from ..errors import Draining, NotFound, PlainmqError, SubscriberLimit
from ..fanout.encoder import NOTIFICATION, Encoder, LeaseEncoder
from ..fanout.fanout import Fanout
from ..fanout.sink import Sink
from ..fanout.subscriber import Subscriber
from ..fanout.wakeup import Wakeup
from ..limits.buffered_bytes import InboundBudget, OutboundBudget
from ..limits.drain import DrainSchedule
from ..limits.quotas import Quotas, counts_as, slots_for
from ..log.directory import ListPage, ListQuery
from ..log.groups.listing import JobPage, JobQuery
from ..log.groups.redrive import Redriven, RedriveTarget
from ..log.groups.state import GroupState
from ..log.reading import Page
from ..log.schedule import ScheduledPublish, SchedulePage
from ..log.topic_log import TopicState
from ..log.totals import Totals
from ..messages.lease import Action, Lease, LeaseId, Outcome
from ..messages.message import Draft, Id, Message, PublishResult, Receipt, Scheduled
from ..messages.position import LATEST, Cursor, Gap, Start
from ..messages.scheduled_id import ScheduledId
from ..messages.topic import TopicFilter
from ..storage.engine import BURST, PAGE_BYTES, Engine
from ..telemetry.counters import Counters
from ..telemetry.loop_lag import LoopLag
from .audience import Audience
from .batcher import PublishBatcher
from .stats import Stats
from .stats_viewer import StatsViewer


class TopicInfo(msgspec.Struct, frozen=True):
    """A topic's state, and its subscribers at this server."""

    state: TopicState
    subscribers: int


class Pulled(msgspec.Struct, frozen=True):
    """The leases of one pull. `gap`: messages that were lost before the group could begin with them; it is reported
    until the group has handed something out."""

    leases: list[Lease]
    gap: Gap | None


class GroupInfo(msgspec.Struct, frozen=True):
    """A group's state, and its consumers at this server."""

    state: GroupState
    workers: int


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


ALL_TOPICS: Final = ListQuery()
TOPICS_A_TURN: Final = 500  # of a list: a few milliseconds of work, then other tasks run
_DEFAULT_TIMING: Final = Timing()


class Broker:
    """One broker on one event loop: `async with Broker(engine) as broker`."""

    def __init__(
        self, engine: Engine, timing: Timing = _DEFAULT_TIMING, max_subscribers: int = 10_000,
        quotas: Quotas | None = None, flow: Flow = Flow(),  # noqa: B008
    ) -> None:  # fmt: skip
        self.engine = engine
        self.inbound = InboundBudget(flow.unfinished)
        self._flow = flow
        self.quotas = quotas or Quotas()
        self.draining = False
        self.counters = Counters()
        self._timing = timing
        self._max_subscribers = max_subscribers
        self._timer: TimerHandle | None = None
        self.started = 0.0  # Unix seconds
        self._viewers = 0  # of the statistics

    async def __aenter__(self) -> Self:
        self._loop = get_running_loop()
        self.started = time()
        timing, on_leave = self._timing, self.quotas.release_slots
        outbound = self.outbound = OutboundBudget(self._flow.unsent, self._loop)
        self._fanout = Fanout(
            self, self._loop, timing.stall, self.counters, outbound, coalesce=timing.coalesce, on_leave=on_leave
        )
        self._consumers = ConsumerRegistry(
            self.engine, self._loop, timing.stall, self._fanout.report, self.counters,
            outbound=outbound, on_leave=on_leave,
        )  # fmt: skip
        await self.engine.open(self._fanout.deliver, self._consumers)
        self._fanout.head = self.engine.head
        self.audience = Audience(self._fanout, self._consumers)
        self.batcher = PublishBatcher(self._loop, self.publish_each)
        self._timer = self._loop.call_later(self._timing.keep_alive, self._tick)
        self.loop_lag = LoopLag(self._loop)
        self.stats = Stats(self, self._loop, self._fanout.report)
        self.stats.start()
        self._drain_schedule = DrainSchedule(self._loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drain()
        self._drain_schedule.finish()
        if self._timer is not None:
            self._timer.cancel()
        self.loop_lag.stop()
        self.stats.stop()
        self._fanout.transit.finish()
        await self.engine.close()

    def publish(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        """Accept drafts for one topic, with the same key and delay, all or none. The future is done once they are as
        durable as the engine promises. Raises Draining. The future fails with MessageTooLarge, TopicLimit or LogFull;
        then nothing was stored."""
        self._refuse_when_draining()
        return self.engine.append(drafts)

    def publish_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        """Accept drafts for one topic, without keys and delays. If they cannot all be accepted, each is tried by
        itself, and the result has one outcome per draft. Raises Draining. The future fails as that of publish() does.
        """
        self._refuse_when_draining()
        return self.engine.append_each(drafts)

    def subscribe(
        self, topic_filter: TopicFilter, encoder: Encoder, sink: Sink, aging: bool = False, limit: int | None = None, *,
        client: str | None = None, who: str = "",
    ) -> Subscriber:  # fmt: skip
        """A subscriber that misses nothing from now on. Call its start() once the sink can take bytes.

        It ends after `limit` messages and, if `aging`, at the stream age. The caller owns it and calls detach() at the
        end. `client`: whose quota of slots it uses (app/limits/quotas.py). `who`: its name for people.
        Raises Draining, SubscriberLimit.
        """
        self._take_slots(client, slots_for(topic_filter.memory))
        return self._fanout.subscribe(topic_filter, encoder, sink, self._age(aging), limit, client=client, who=who)

    @property
    def epoch(self) -> str:
        """The first half of the log's ids: it changes when the log loses its past."""
        return self.engine.epoch

    @property
    def unready(self) -> str:
        """Why no messages are accepted until an operator helps; empty while they are."""
        return self.engine.unready

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:
        return self.engine.has_unclaimed(topic_filter)

    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]:
        return self.engine.locate(topic_filter, start)

    def read_on(self, topic_filter: TopicFilter, cursor: Cursor, limit: int, take: bool) -> Future[Page]:
        return self.engine.read(topic_filter, cursor, limit=limit, nbytes=BURST, take=take)

    def taken(self, seqs: Sequence[int]) -> None:
        self.engine.taken(seqs)

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        return self.engine.give_back(seqs)

    async def read(
        self, topic_filter: TopicFilter, start: Start, limit: int, wait: float = 0.0, *,
        client: str | None = None, who: str = "",
    ) -> Page:  # fmt: skip
        """A page of at most `limit` messages and about 1 MiB; if there is none, the first that arrive within `wait`
        seconds. Messages of `delivery=one` are left out: they are for subscribers. Raises Draining, SubscriberLimit.
        """
        cursor = await self.engine.locate(topic_filter, start)
        with self._wakeup(topic_filter, client, who) if wait else nullcontext(None) as wakeup:
            page = await self._page(topic_filter, cursor, limit)
            if wakeup is not None and not page.messages and page.gap is None and await wakeup.wait(wait):
                page = await self._page(topic_filter, page.cursor, limit)
        self.counters.gaps += page.gap is not None
        return page

    async def _page(self, topic_filter: TopicFilter, cursor: Cursor, limit: int) -> Page:
        """The next messages up to the head; or the next gap, with the messages right behind it."""
        head, left = self._fanout.head, PAGE_BYTES
        messages: list[Message] = []
        while True:
            page = await self.engine.read(topic_filter, cursor, limit=limit - len(messages), nbytes=left, take=False)
            if page.gap is not None and messages:
                return Page(messages, cursor)  # the gap belongs to the next page
            messages += page.messages
            left -= sum([len(message.data) for message in page.messages])
            cursor = page.cursor
            if page.gap is not None or cursor.seq >= head or len(messages) >= limit or left <= 0:
                return Page(messages, cursor, page.gap)
            await sleep(0)  # each read is bounded to a few milliseconds of work

    @contextmanager
    def _wakeup(self, topic_filter: TopicFilter, client: str | None, who: str) -> Iterator[Wakeup]:
        wakeup = Wakeup()
        subscriber = self.subscribe(topic_filter, NOTIFICATION, wakeup, client=client, who=who)
        try:
            subscriber.start(LATEST)
            yield wakeup
        finally:
            subscriber.detach()

    async def get(self, topic: str, id: Id) -> Message:
        """The retained message with this id. Raises NotFound."""
        message = await self.engine.get(id)
        if message is None or message.topic != topic:
            raise NotFound(f"topic {topic!r} retains no message {id}: it never was there, or has gone since")
        return message

    async def topics(self, query: ListQuery = ALL_TOPICS) -> ListPage[TopicInfo]:
        """Raises OptionInvalid."""
        infos: list[TopicInfo] = []
        page = await self.engine.topics(query)
        for start in range(0, len(page.items), TOPICS_A_TURN):
            infos += [self._info(state) for state in page.items[start : start + TOPICS_A_TURN]]
            await sleep(0)
        return ListPage(infos, page.next)

    async def topic(self, name: str) -> TopicInfo:
        """Raises NotFound."""
        return self._info(await self.engine.topic(name))

    def _info(self, state: TopicState) -> TopicInfo:
        return TopicInfo(state, self._fanout.subscribers(state.topic))

    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        """Change fields of a topic's Retention. A topic that does not exist is made. Raises Draining; fails with
        TopicLimit."""
        self._refuse_when_draining()
        return self.engine.configure(name, changes)

    def pause(self, name: str, paused: bool) -> Future[None]:
        """Refuse publishes to the topic, or accept them again. Raises Draining; fails with NotFound."""
        self._refuse_when_draining()
        return self.engine.pause(name, paused)

    def purge(self, name: str, before: tuple[str, Start] | None = None) -> Future[int]:
        """Delete the messages of a topic that are before a position, as written and as parsed (None: all), also those
        that groups hold; its settings and its groups stay. The result is their number. Raises Draining; fails with
        NotFound, OptionInvalid."""
        self._refuse_when_draining()
        return self.engine.purge(name, before)

    def drop(self, name: str) -> Future[None]:
        """Delete a topic and its messages. Raises Draining; fails with NotFound."""
        self._refuse_when_draining()
        return self.engine.drop(name)

    # Delayed publishes

    def schedule(self, match: TopicFilter | None, after: str | None, limit: int) -> Future[SchedulePage]:
        """A page of the delayed publishes, by their due time. Fails with OptionInvalid."""
        return self.engine.schedule(match, after, limit)

    def scheduled(self, id: ScheduledId) -> Future[ScheduledPublish]:
        """Fails with NotFound."""
        return self.engine.scheduled(id)

    def cancel_scheduled(self, id: ScheduledId) -> Future[None]:
        """Raises Draining; fails with NotFound."""
        self._refuse_when_draining()
        return self.engine.cancel_scheduled(id)

    def publish_scheduled(self, id: ScheduledId) -> Future[Receipt]:
        """Publish at once what is scheduled. Raises Draining; fails with NotFound, MessageTooLarge, LogFull."""
        self._refuse_when_draining()
        return self.engine.publish_scheduled(id)

    # Consumer groups

    async def pull(
        self, topic: str, group: str, *, make: bool, count: int, wait: float = 0.0, lease: float | None = None,
        client: str | None = None, holder: str = "",
    ) -> Pulled:  # fmt: skip
        """Lease at most `count` messages and about 1 MiB for `lease` seconds (None: the group's ack_timeout); if none
        is ready, the first within `wait` seconds. If the caller is cancelled, nothing stays leased. `make`: as for
        join(). `holder`: who gets the leases, for people. Raises Draining, SubscriberLimit, NotFound, TopicLimit,
        GroupLimit, LogFull, OptionInvalid."""
        self._check_slots()
        gap = await self.engine.join(topic, group, make)
        self._take_slots(client)
        leases = await self._consumers.pull(topic, group, count, wait, lease, client=client, holder=holder)
        self.counters.gaps += gap is not None
        return Pulled(leases, gap)

    def join(self, topic: str, group: str, make: bool) -> Future[Gap | None]:
        """Make sure that the group exists; with `make`, it and its topic are made if need be. The result is a gap to
        report to its consumer. Raises Draining; fails with NotFound, TopicLimit, GroupLimit, LogFull, OptionInvalid.
        """
        self._refuse_when_draining()
        return self.engine.join(topic, group, make)

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
        self._take_slots(client)
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
        return self.engine.settle(topic, group, action, ids, seconds, reason=reason)

    def jobs(self, query: JobQuery) -> Future[JobPage]:
        """A page of a group's messages in one state; nothing is taken. Fails with NotFound."""
        return self.engine.jobs(query)

    async def group(self, topic: str, group: str) -> GroupInfo:
        """Raises NotFound."""
        return self._group_info(await self.engine.group(topic, group))

    async def groups(self, query: ListQuery) -> ListPage[GroupInfo]:
        """The groups of all topics that the query selects. Raises OptionInvalid."""
        page = await self.engine.groups(query)
        return ListPage([self._group_info(state) for state in page.items], page.next)

    def _group_info(self, state: GroupState) -> GroupInfo:
        return GroupInfo(state, self._consumers.count(state.topic, state.group))

    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None, *,
        make: bool,
    ) -> Future[None]:  # fmt: skip
        """Change fields of a group's settings; with `make`, the topic and the group are made if need be. `start` (as
        written, and as parsed) says where a new group begins. Raises Draining; fails with NotFound, OptionInvalid,
        TopicLimit, GroupLimit, LogFull."""
        self._refuse_when_draining()
        return self.engine.configure_group(topic, group, changes, start, make)

    def redrive(self, target: RedriveTarget, ids: Sequence[Id] | None = None) -> Future[Redriven]:
        """Return dead letters to their group: those with these ids that are there, all or none; or all that there are
        (None), as far as there is room. Raises Draining; fails with NotFound, LogFull, MessageTooLarge; then none has
        returned."""
        self._refuse_when_draining()
        return self.engine.redrive(target, ids)

    def seek(self, topic: str, group: str, to: tuple[str, Start]) -> Future[None]:
        """Hand out exactly the messages after a position (as written, and as parsed) from now on. What is leased or
        delayed after it stays so. Raises Draining; fails with NotFound, OptionInvalid, LogFull."""
        self._refuse_when_draining()
        return self.engine.seek(topic, group, to)

    def pause_group(self, topic: str, group: str, paused: bool) -> Future[None]:
        """While a group is paused it hands out nothing, also after a restart. Raises Draining; fails with NotFound."""
        self._refuse_when_draining()
        return self.engine.pause_group(topic, group, paused)

    def drop_group(self, topic: str, group: str) -> Future[None]:
        """Delete a group, and end its consumers. Raises Draining; fails with NotFound."""
        self._refuse_when_draining()
        return self.engine.drop_group(topic, group)

    # For the metrics and the statistics (app/web/api/prometheus.py, stats.py)

    def watch_stats(self, encode: Callable[[bytes], bytes], sink: Sink, *, client: str | None = None) -> StatsViewer:
        """A viewer of the statistics, to whose sink each sample is written, encoded from its JSON. Call its start()
        once the sink can take bytes. The caller owns it and calls detach() at the end. Raises Draining,
        SubscriberLimit."""
        self._take_slots(client)
        self._viewers += 1
        return StatsViewer(
            self.stats, encode, sink, loop=self._loop, stall_timeout=self._timing.stall, counters=self.counters,
            on_leave=partial(self._viewer_left, client),
        )  # fmt: skip

    def _viewer_left(self, client: str | None) -> None:
        self._viewers -= 1
        self.quotas.release_slots(client, 1)

    @property
    def published(self) -> int:
        """Messages accepted since the start: each has the log's next seq."""
        return self._fanout.head - self.engine.head

    def subscribers(self) -> dict[str, int]:
        """The number of subscriptions of each kind, and of consumers, with pending pulls among them."""
        return self._fanout.count_by_kind() | {"worker": self._consumers.consumers}

    async def totals(self) -> Totals | None:
        """What the log holds; None if it cannot be asked now."""
        try:
            return await self.engine.totals()
        except PlainmqError:
            return None

    @property
    def pressure(self) -> float:
        """How long refused clients should stay away, 0 to 1. It rises from 0 when half of the slots are taken (1: all),
        or when the event loop is half a second late (1: a second)."""
        full = max(self.slots / self._max_subscribers, self.loop_lag.latest)
        return 0.0 if full <= 0.5 else min(2 * full - 1, 1.0)

    def drain(self, spread: float = 0.0) -> None:
        """Refuse publishes and new subscribers. Once the accepted messages have been delivered, end all open streams
        within `spread` seconds. Idempotent."""
        if not self.draining:
            self.draining = True
            self._consumers.pause()
            ends = [end for part in (self._consumers, self._fanout, self.stats) for end in part.end_all("draining")]
            self._drain_schedule.begin(ends, spread, self.engine.caught_up())

    async def drained(self) -> None:
        """Wait until every stream has been ended."""
        await self._drain_schedule.wait()

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise Draining("the server is stopping; try again in a few seconds")

    def _take_slots(self, client: str | None, count: int = 1) -> None:
        """They are released when the subscriber leaves. Raises Draining, SubscriberLimit."""
        self._check_slots(count)
        self.quotas.take_slots(client, count)

    def _check_slots(self, count: int = 1) -> None:
        """Raises Draining, SubscriberLimit."""
        self._refuse_when_draining()
        if self.slots + count > self._max_subscribers:
            raise SubscriberLimit(
                f"there are {self.slots} subscribers, as many as this server has room for{counts_as(count)}"
            )

    @property
    def slots(self) -> int:
        """Slots of subscribers that are taken."""
        return self._fanout.slots + self._consumers.consumers + self._viewers

    def _age(self, aging: bool) -> float:
        return self._timing.stream_age * uniform(0.9, 1.1) if aging else inf

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._timing.keep_alive, self._tick)
        self._fanout.keep_alive()
        self._consumers.keep_alive()
