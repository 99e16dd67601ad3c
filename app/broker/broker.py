"""The core's face to the doors: publish, subscribe, read. It knows the engine's verbs and never which engine it is."""

from asyncio import Future, TimerHandle, get_running_loop, sleep
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from math import inf
from random import uniform
from typing import Any, Final, Self

import msgspec

from ..consumers.push import PushConsumer
from ..consumers.registry import ConsumerRegistry
from ..errors import Draining, NotFound, PlainmqError, SubscriberLimit
from ..fanout.cohort import Subscriber
from ..fanout.encoder import NOTIFICATION, Encoder, LeaseEncoder
from ..fanout.fanout import Fanout
from ..fanout.sink import Sink
from ..fanout.wakeup import Wakeup
from ..limits.buffered_bytes import InboundBudget, OutboundBudget
from ..limits.drain import DrainSchedule
from ..limits.quotas import Quotas, counts_as, places
from ..log.groups.group import GroupState
from ..log.reading import Page
from ..log.topic_log import TopicState
from ..log.totals import Totals
from ..messages.lease import Action, Lease, LeaseId, Outcome
from ..messages.message import Draft, Id, Message, PublishResult, Receipt, Scheduled
from ..messages.position import LATEST, Cursor, Gap, Start
from ..messages.topic import TopicFilter
from ..storage.engine import BURST, PAGE_BYTES, Engine
from ..telemetry.counters import Counters
from ..telemetry.loop_lag import LoopLag
from .batcher import PublishBatcher


class TopicInfo(msgspec.Struct, frozen=True):
    """A topic as people ask about it."""

    state: TopicState
    subscribers: int


class Pulled(msgspec.Struct, frozen=True):
    """What was leased. `gap`: what is gone of what the group was to begin with, until it has handed something out."""

    leases: list[Lease]
    gap: Gap | None


class GroupInfo(msgspec.Struct, frozen=True):
    """A group as people ask about it."""

    state: GroupState
    workers: int


class Timing(msgspec.Struct, frozen=True):
    """Seconds: between keep-alive comments, until a stalled reader is cut off, an event stream's greatest age, the
    longest that messages wait to be written together."""

    keep_alive: float = 15.0
    stall: float = 10.0
    stream_age: float = 3_600.0
    coalesce: float = 0.01


class Flow(msgspec.Struct, frozen=True):
    """Bytes: of what is still coming in, and of what readers have not taken, all clients together."""

    unfinished: int = 256 << 20
    unsent: int = 256 << 20


TOPICS_A_TURN: Final = 500  # of a list of topics: some milliseconds, then others get their turn
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

    async def __aenter__(self) -> Self:
        self._loop = get_running_loop()
        timing, outbound, left = self._timing, OutboundBudget(self._flow.unsent, self._loop), self.quotas.leave_seats
        self._cohorts = Fanout(
            self, self._loop, timing.stall, self.counters, outbound, coalesce=timing.coalesce, left=left
        )
        self._workers = ConsumerRegistry(
            self.engine, self._loop, timing.stall, self._cohorts.report, self.counters, outbound=outbound, left=left
        )
        await self.engine.open(self._cohorts.deliver, self._workers)
        self._cohorts.head = self.engine.head
        self.batcher = PublishBatcher(self._loop, self.publish_each)
        self._timer = self._loop.call_later(self._timing.keep_alive, self._tick)
        self.loop_lag = LoopLag(self._loop)
        self._farewells = DrainSchedule(self._loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drain()
        self._farewells.finish()
        if self._timer is not None:
            self._timer.cancel()
        self.loop_lag.stop()
        self._cohorts.transit.finish()
        await self.engine.close()

    def publish(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        """Accept drafts for one topic, with the same key and delay, all or none. The future is done when they are as
        durable as the engine says. Raises Draining; the future fails with MessageTooLarge, TopicLimit or LogFull; then
        nothing was stored."""
        self._refuse_when_draining()
        return self.engine.append(drafts)

    def publish_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        """Accept drafts for one topic, without keys and delays: all of them, or if they are refused together, those
        that are not refused by themselves; then each is answered for. Raises Draining; fails as publish() does."""
        self._refuse_when_draining()
        return self.engine.append_each(drafts)

    def subscribe(
        self, topic_filter: TopicFilter, form: Encoder, sink: Sink, aging: bool = False, limit: int | None = None, *,
        client: str | None = None,
    ) -> Subscriber:  # fmt: skip
        """A reader that misses nothing from now on. Its start(), called once the sink can take bytes, begins to write.

        It ends after `limit` messages; if `aging`, also at the stream age. The caller owns it and close()s it.
        `client`: whose share of the places it takes (app/limits/quotas.py). Raises Draining, SubscriberLimit.
        """
        self._take_seats(client, places(topic_filter.memory))
        return self._cohorts.subscribe(topic_filter, form, sink, self._age(aging), limit, client=client)

    @property
    def epoch(self) -> str:
        """One life of the log: the first half of its ids."""
        return self.engine.epoch

    @property
    def unready(self) -> str:
        """Why it takes no messages until somebody comes to help; empty as long as it does."""
        return self.engine.unready

    def waits(self, topic_filter: TopicFilter) -> bool:
        return self.engine.waits(topic_filter)

    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]:
        return self.engine.locate(topic_filter, start)

    def read_on(self, topic_filter: TopicFilter, cursor: Cursor, upto: int, limit: int, take: bool) -> Future[Page]:
        return self.engine.read(topic_filter, cursor, upto=upto, limit=limit, nbytes=BURST, take=take)

    def taken(self, seqs: Sequence[int]) -> None:
        self.engine.taken(seqs)

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        return self.engine.give_back(seqs)

    async def read(
        self, topic_filter: TopicFilter, start: Start, limit: int, wait: float = 0.0, client: str | None = None
    ) -> Page:
        """A page of at most `limit` messages and about 1 MiB; when there is none, the first that come within `wait`
        seconds. What is for one subscriber is not shown: a page is not a subscriber. Raises Draining, SubscriberLimit.
        """
        cursor = await self.engine.locate(topic_filter, start)
        with self._alarm(topic_filter, client) if wait else nullcontext(None) as wakeup:
            page = await self._page(topic_filter, cursor, limit)
            if wakeup is not None and not page.messages and page.gap is None and await wakeup.wait(wait):
                page = await self._page(topic_filter, page.cursor, limit)
        self.counters.gaps += page.gap is not None
        return page

    async def _page(self, topic_filter: TopicFilter, cursor: Cursor, limit: int) -> Page:
        """The next messages, as many as there are up to the head; or the next gap and what follows it at once."""
        head, left = self._cohorts.head, PAGE_BYTES
        messages: list[Message] = []
        while True:
            page = await self.engine.read(
                topic_filter, cursor, upto=head, limit=limit - len(messages), nbytes=left, take=False
            )
            if page.gap is not None and messages:
                return Page(messages, cursor)  # the gap is for the next one
            messages += page.messages
            left -= sum([len(message.data) for message in page.messages])
            cursor = page.cursor
            if page.gap is not None or cursor.seq >= head or len(messages) >= limit or left <= 0:
                return Page(messages, cursor, page.gap)
            await sleep(0)  # each looks at no more than some milliseconds allow

    @contextmanager
    def _alarm(self, topic_filter: TopicFilter, client: str | None) -> Iterator[Wakeup]:
        wakeup = Wakeup()
        reader = self.subscribe(topic_filter, NOTIFICATION, wakeup, client=client)
        try:
            reader.start(LATEST)
            yield wakeup
        finally:
            reader.detach()

    async def get(self, topic: str, id: Id) -> Message:
        """The retained message with this id. Raises NotFound."""
        message = await self.engine.get(id)
        if message is None or message.topic != topic:
            raise NotFound(f"topic {topic!r} retains no message {id}: it never was there, or has gone since")
        return message

    async def topics(self, topic_filter: TopicFilter | None = None) -> list[TopicInfo]:
        """The topics that are selected (None: every one), by name."""
        infos: list[TopicInfo] = []
        states = await self.engine.topics(topic_filter)
        for start in range(0, len(states), TOPICS_A_TURN):
            infos += [self._info(state) for state in states[start : start + TOPICS_A_TURN]]
            await sleep(0)
        return infos

    async def topic(self, name: str) -> TopicInfo:
        """Raises NotFound."""
        return self._info(await self.engine.topic(name))

    def _info(self, state: TopicState) -> TopicInfo:
        return TopicInfo(state, self._cohorts.subscribers(state.topic))

    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        """Change fields of a topic's Retention; the topic is made if there is none. Raises Draining; fails with
        TopicLimit."""
        self._refuse_when_draining()
        return self.engine.configure(name, changes)

    def drop(self, name: str) -> Future[None]:
        """Forget a topic and its messages. Raises Draining; fails with NotFound."""
        self._refuse_when_draining()
        return self.engine.drop(name)

    # Groups: a topic shared out among workers

    async def pull(
        self, topic: str, group: str, *, make: bool, count: int, wait: float = 0.0, lease: float | None = None,
        client: str | None = None,
    ) -> Pulled:  # fmt: skip
        """At most `count` messages and about 1 MiB, each leased for `lease` seconds (None: the group's ack_timeout);
        when there is none, what comes within `wait` seconds. Whoever stops waiting has taken nothing. `make`: as for
        join(). Raises Draining, SubscriberLimit, NotFound, TopicLimit, GroupLimit, LogFull, OptionInvalid."""
        self._check_seats()
        gap = await self.engine.join(topic, group, make)
        self._take_seats(client)
        leases = await self._workers.pull(topic, group, count, wait, lease, client=client)
        self.counters.gaps += gap is not None
        return Pulled(leases, gap)

    def join(self, topic: str, group: str, make: bool) -> Future[Gap | None]:
        """The group is there; if `make`, it and its topic are made. The gap is for its worker. Raises
        Draining; fails with NotFound, TopicLimit, GroupLimit, LogFull, OptionInvalid."""
        self._refuse_when_draining()
        return self.engine.join(topic, group, make)

    def push(
        self,
        topic: str,
        group: str,
        form: LeaseEncoder,
        sink: Sink,
        *,
        credit: int,
        lease: float | None = None,
        aging: bool = False,
        client: str | None = None,
    ) -> PushConsumer:
        """A worker of a group that is there, with at most `credit` leases at a time. Its start(), called once the sink
        can take bytes, begins to write. If `aging`, it ends at the stream age. The caller owns it and close()s it: then
        what it holds goes to others. Raises Draining, SubscriberLimit."""
        self._take_seats(client)
        return self._workers.push(
            topic, group, form, sink, credit=credit, lease=lease, max_age=self._age(aging), client=client
        )

    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None
    ) -> Future[list[Outcome]]:
        """What became of each lease, also while the server is stopping. `seconds`: a nack's delay (None: it grows with
        the attempts), an extension's length (None: the group's ack_timeout). Fails with NotFound."""
        return self.engine.settle(topic, group, action, ids, seconds)

    async def group(self, topic: str, group: str) -> GroupInfo:
        """Raises NotFound."""
        return GroupInfo(await self.engine.group(topic, group), self._workers.count(topic, group))

    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None, *,
        make: bool,
    ) -> Future[None]:  # fmt: skip
        """Change fields of a group's settings; if `make`, the topic and the group are made if they are not there.
        `start` (the word, and what it means) says where a new group begins. Raises Draining; fails with NotFound,
        OptionInvalid, TopicLimit, GroupLimit, LogFull."""
        self._refuse_when_draining()
        return self.engine.configure_group(topic, group, changes, start, make)

    def drop_group(self, topic: str, group: str) -> Future[None]:
        """Forget a group; its workers are told. Raises Draining; fails with NotFound."""
        self._refuse_when_draining()
        return self.engine.drop_group(topic, group)

    # What is counted (app/web/api/prometheus.py)

    @property
    def published(self) -> int:
        """How many messages were accepted since the start: each takes the log's next place."""
        return self._cohorts.head - self.engine.head

    def subscribers(self) -> dict[str, int]:
        """How many there are of each kind of reader, and of workers, those that pull among them."""
        return self._cohorts.count_by_kind() | {"worker": self._workers.consumers}

    async def totals(self) -> Totals | None:
        """What the log holds; None when it cannot be asked now."""
        try:
            return await self.engine.totals()
        except PlainmqError:
            return None

    @property
    def pressure(self) -> float:
        """How much the server wants those who are sent away to stay away, 0 to 1: it is more than half full (1: there
        is no place left), or its event loop is more than half a second late (1: by a second)."""
        full = max(self._places / self._max_subscribers, self.loop_lag.latest)
        return 0.0 if full <= 0.5 else min(2 * full - 1, 1.0)

    def drain(self, spread: float = 0.0) -> None:
        """Close the doors: publishes and new readers are refused; when what was accepted has reached its readers, open
        streams are ended in good order, all within `spread` seconds. Idempotent."""
        if not self.draining:
            self.draining = True
            self._workers.pause()
            ends = [*self._workers.end_all("draining"), *self._cohorts.end_all("draining")]
            self._farewells.begin(ends, spread, self.engine.caught_up())

    async def drained(self) -> None:
        """Wait until every stream was told that it ends."""
        await self._farewells.wait()

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise Draining("the server is stopping; try again in a few seconds")

    def _take_seats(self, client: str | None, count: int = 1) -> None:
        """Whoever leaves gives them back. Raises Draining, SubscriberLimit."""
        self._check_seats(count)
        self.quotas.take_seats(client, count)

    def _check_seats(self, count: int = 1) -> None:
        """Raises Draining, SubscriberLimit."""
        self._refuse_when_draining()
        if self._places + count > self._max_subscribers:
            raise SubscriberLimit(
                f"there are {self._places} subscribers, as many as this server has room for{counts_as(count)}"
            )

    @property
    def _places(self) -> int:
        return self._cohorts.places + self._workers.consumers

    def _age(self, aging: bool) -> float:
        return self._timing.stream_age * uniform(0.9, 1.1) if aging else inf

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._timing.keep_alive, self._tick)
        self._cohorts.keep_alive()
        self._workers.keep_alive()
