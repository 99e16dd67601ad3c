"""A broker on each engine against the model: any sequence of publishes, subscribers, losses and restarts.

Subscribers are real ones on real cohorts; only their sockets are ours, so that they can be full whenever the machine
likes.
"""

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from app.broker.broker import Broker, Timing
from app.consumers.push import PushConsumer
from app.errors import DeadLettersLeft, LogFull, NotFound, OptionInvalid, TopicPaused
from app.fanout.subscriber import Subscriber
from app.log.groups import choice
from app.log.groups.job import JobState
from app.log.groups.listing import JobPage, JobQuery
from app.log.groups.redrive import Redriven, RedriveTarget
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, LeaseId, Outcome, parse_lease_id
from app.messages.message import Delivery, Draft, Id, Scheduled
from app.messages.ordering import make_ordering
from app.messages.position import EARLIEST, LATEST, After, Last, Start
from app.messages.scheduled_id import parse_scheduled_id
from app.messages.topic import TopicFilter
from app.net.progress import Progress
from app.storage.engine import Engine
from app.storage.sqlite.engine import SqliteEngine
from app.web.sse import SSE_JSON, SSE_LEASE
from tests.engines.conftest import ENGINES, Clock
from tests.engines.model import Model, ModelGroup, ModelScheduled, ModelSubscriber
from tests.event_stream import SseParser
from tests.harness import draft

T = TypeVar("T")

MAX_MESSAGES, MAX_AGE = 4, 100.0
OVERTAKING = 2  # messages that overtake in a row: a topic has few here
FAR = 1e7  # seconds
QUESTIONS = 8  # to the engine, one following from the other, at most
TURNS = 40  # of the event loop: a slow engine takes some for each question, and there are a few after each other
TOPICS = ["a", "b.x", "b.y", "b.y/z"]
SHARED = ["a", "b.x"]  # topics that have groups, at times
FILTERS = [["a"], ["b.x"], ["b.*"], ["b.**"], ["**"], ["*"], ["a", "b.x"], ["a", "b.*"], ["b.y/*", "**"]]


MEMORY_FOLDER = next((folder for folder in ("/dev/shm",) if os.access(folder, os.W_OK)), None)
"""Files are opened thousands of times here: on a disk, most of the time would be spent in waiting for it."""


class Socket:
    """A sink that takes everything, remembers it, and is full when it is told to be."""

    def __init__(self) -> None:
        self._parser = SseParser()
        self.got: list[str] = []

    def write(self, data: bytes) -> None:
        for event in self._parser.feed(data):
            if event.type == "place":
                continue
            record = json.loads(event.data)
            self.got.append(f"GAP {record['reason']}" if event.type == "gap" else record["data"])

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return Progress(0, 0)

    def end(self, reason: str) -> None:
        raise AssertionError(f"nobody asked for an end: {reason}")

    def abort(self) -> None:
        raise AssertionError("nobody stalls here")


class WorkSocket:
    """A sink that takes leases, and an end."""

    def __init__(self) -> None:
        self._parser = SseParser()
        self.leases: list[LeaseId] = []
        self.ends: list[str] = []

    def write(self, data: bytes) -> None:
        assert not self.ends
        self.leases += [parse_lease_id(json.loads(event.data)["lease"]) for event in self._parser.feed(data)]

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return Progress(0, 0)

    def end(self, reason: str) -> None:
        self.ends.append(reason)

    def abort(self) -> None:
        raise AssertionError("nobody stalls here")


@dataclass
class ModelConsumer:
    """A push consumer, and what the model knows of it."""

    worker: PushConsumer
    socket: WorkSocket
    group: ModelGroup
    credit: int
    paused: bool = False
    given: list[LeaseId] = field(default_factory=list)

    @property
    def held(self) -> list[LeaseId]:
        leases = {(work.seq, work.attempt) for work in self.group.staged("leased")}
        return [lease for lease in self.given if (lease.message.seq, lease.attempt) in leases]

    @property
    def room(self) -> int:
        return 0 if self.paused else self.credit - len(self.held)


def some_group(machine: "Machine") -> bool:
    return bool(machine.model.groups)


def some_history(machine: "Machine") -> bool:
    """Enough has happened for an end to be worth a step."""
    return machine.model.head > 8


def some_dead(machine: "Machine") -> bool:
    return any(machine.model.dead_of(group) for group in machine.model.groups.values())


def some_lease(machine: "Machine") -> bool:
    return any(group.staged("leased") for group in machine.model.groups.values())


async def answered(ask: Callable[..., asyncio.Future[T]], *args: Any) -> T:
    """The answer to a question that is asked in the loop."""
    return await ask(*args)


AT_ONCE = Timing(coalesce=0)  # what is delivered in a turn is written in it


class Machine(RuleBasedStateMachine):
    make: Callable[[Limits, Clock], Engine]
    limits = Limits(Retention(MAX_MESSAGES, 1 << 20, MAX_AGE), topic_idle=1e9)
    subscribers = Bundle("subscribers")
    push_consumers = Bundle("push_consumers")

    @initialize(shared=st.sampled_from([None, *SHARED]))
    def start(self, shared: str | None) -> None:
        """Half of a group's life needs a group, a message and a pull, in this order: so there may be one at once."""
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.names = itertools.count()
        self.bodies = itertools.count()
        self.old_epochs = ["other"]
        self.open()
        if shared is not None:
            self.make_group(shared, "g", 5.0, 2, "b.y", 0)

    def open(self) -> None:
        self.model = Model(MAX_MESSAGES, MAX_AGE)
        self.model.now = self.clock.now
        self.live: dict[int, tuple[Subscriber, Socket]] = {}
        self.working: dict[int, ModelConsumer] = {}
        self.serve()

    def serve(self) -> None:
        self.begin(type(self).make(self.limits, self.clock))

    def begin(self, engine: Engine) -> None:
        self.questions = 0
        for name in Engine.__abstractmethods__ - {"open", "close", "topics"}:
            setattr(engine, name, self.counted(getattr(engine, name)))
        self.broker = Broker(engine, AT_ONCE)
        self.run(self.broker.__aenter__())

    def counted(self, ask: Callable[..., T]) -> Callable[..., T]:
        def count_and_ask(*args: Any, **options: Any) -> T:
            self.questions += 1
            return ask(*args, **options)

        return count_and_ask

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def call(self, action: Callable[..., object], *args: object) -> None:
        """Call it inside the loop, and wait for what it answers."""

        async def called() -> None:
            answer = action(*args)
            if isinstance(answer, asyncio.Future):
                await answer

        self.run(called())

    def settle(self) -> None:
        """Let every pending turn happen: flushes, and pages of subscribers that catch up. The first round answers what
        was asked before. After a round in which nothing is asked, nothing is pending."""

        async def turns() -> None:
            asked = -1
            for _ in range(QUESTIONS):
                before, asked = asked, self.questions
                for _ in range(TURNS // QUESTIONS):
                    await asyncio.sleep(0)
                await self.broker.directory.topics()  # what was asked before has been answered
                if before == asked == self.questions:
                    return

        self.run(turns())

    @rule(
        topic=st.sampled_from([*TOPICS, *SHARED]), count=st.integers(1, 3),
        for_one=st.sampled_from([False, False, True]), retain=st.sampled_from([True, True, False]),
        ttl=st.sampled_from([None, None, 5.0, 50.0]), same_turn=st.booleans(),
        priority=st.sampled_from([0, 0, 0, 1, 9]), key=st.sampled_from([None, None, "k", "l"]),
    )  # fmt: skip
    def publish(
        self, topic: str, count: int, for_one: bool, retain: bool, ttl: float | None, same_turn: bool, priority: int,
        key: str | None,
    ) -> None:  # fmt: skip
        self.put_messages(topic, count, for_one, retain, ttl, same_turn, priority, key)

    @precondition(some_group)
    @rule(
        data=st.data(), count=st.integers(1, 2), priority=st.sampled_from([0, 1, 9]),
        key=st.sampled_from([None, None, "k"]),
    )  # fmt: skip
    def publish_to_a_group(self, data: st.DataObject, count: int, priority: int, key: str | None) -> None:
        self.put_messages(self.any_group(data).topic, count, False, True, None, True, priority, key)

    def put_messages(
        self, topic: str, count: int, for_one: bool, retain: bool, ttl: float | None, same_turn: bool, priority: int,
        key: str | None,
    ) -> None:  # fmt: skip
        delivery = Delivery.ONE if for_one else Delivery.ALL
        bodies = [f"m{next(self.bodies)}" for _ in range(count)]
        options: dict[str, Any] = {
            "delivery": delivery,
            "retain": retain,
            "ttl": ttl,
            "ordering": make_ordering(priority, key),
        }
        drafts = [draft(topic, b.encode(), **options) for b in bodies]

        if self.model.refuses(topic, count if retain else 0):
            with pytest.raises(LogFull):
                self.run(self.published(drafts))
            return

        async def publish() -> None:
            for batch in [drafts] if same_turn else [[one] for one in drafts]:
                await self.broker.publish(batch)

        self.run(publish())
        self.settle()
        for body in bodies:
            if candidates := self.model.hand_out(self.model.append(topic, body, for_one, retain, ttl, priority, key)):
                takers = [n for n in candidates if body in self.live[n][1].got]
                assert len(takers) == 1, f"{body} is for one, and went to {takers}"
                self.model.subscribers[takers[0]].got.append(body)
            self.model.trim(topic)

    @rule(
        topic=st.sampled_from([*TOPICS, *SHARED]), for_one=st.sampled_from([False, False, True]),
        ttl=st.sampled_from([None, None, 5.0]),
    )  # fmt: skip
    def schedule(self, topic: str, for_one: bool, ttl: float | None) -> None:
        """It is due when nobody lives any more, so that it comes only if somebody wants it to."""
        one = ModelScheduled(topic, f"m{next(self.bodies)}", for_one, ttl)
        delivery = Delivery.ONE if for_one else Delivery.ALL
        drafts = [draft(topic, one.body.encode(), delay=FAR, delivery=delivery, ttl=ttl)]
        if self.model.refuses(topic, 1):
            with pytest.raises(LogFull):
                self.run(self.published(drafts))
            return
        answer = self.run(answered(self.broker.publish, drafts))
        assert isinstance(answer, Scheduled)
        self.model.scheduled[answer.id] = one

    @precondition(lambda self: self.model.scheduled)
    @rule(data=st.data())
    def cancel_scheduled(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.model.scheduled)))
        self.call(self.broker.changes.cancel_scheduled, parse_scheduled_id(id))
        del self.model.scheduled[id]

    @precondition(lambda self: self.model.scheduled)
    @rule(data=st.data())
    def publish_scheduled(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.model.scheduled)))
        one, model = self.model.scheduled[id], self.model
        if model.refuses(one.topic, 1):
            with pytest.raises(LogFull):
                self.call(self.broker.changes.publish_scheduled, parse_scheduled_id(id))
            return
        del model.scheduled[id]
        self.call(self.broker.changes.publish_scheduled, parse_scheduled_id(id))
        self.settle()
        if candidates := model.hand_out(model.append(one.topic, one.body, one.for_one, retain=True, ttl=one.ttl)):
            takers = [n for n in candidates if one.body in self.live[n][1].got]
            assert len(takers) == 1, f"{one.body} is for one, and went to {takers}"
            model.subscribers[takers[0]].got.append(one.body)
        model.trim(one.topic)

    @invariant()
    def what_is_scheduled_is_what_was_neither_published_nor_cancelled(self) -> None:
        page = self.run(answered(self.broker.log.schedule, None, None, 1_000))
        assert [(str(one.id), one.first.envelope.topic, one.first.bodies[0].decode()) for one in page.publishes] == [
            (id, one.topic, one.body) for id, one in self.model.scheduled.items()
        ]

    @rule(topic=st.sampled_from(TOPICS))
    def topic_is_paused_and_resumed(self, topic: str) -> None:
        if topic in self.model.topics():
            self.call(self.broker.changes.pause, topic, True)
            with pytest.raises(TopicPaused):
                self.run(self.published([draft(topic, b"never")]))
            self.call(self.broker.changes.pause, topic, False)
            self.model.retry_in(topic)

    async def published(self, drafts: list[Draft]) -> None:
        await self.broker.publish(drafts)

    @rule(target=subscribers, names=st.sampled_from(FILTERS), data=st.data())
    def subscribe(self, names: list[str], data: st.DataObject) -> int:
        topic_filter, model, n = TopicFilter(names), self.model, next(self.names)
        epoch, lost = self.broker.log.epoch, model.lost(topic_filter)
        place, ahead, last = data.draw(st.tuples(st.integers(0, model.head), st.integers(1, 9), st.integers(0, 6)))
        starts: dict[str, tuple[Start, int, int, str | None]] = {
            "latest": (LATEST, model.head, 0, None),
            "earliest": (EARLIEST, 0, lost, None),
            "after": (After(Id(epoch, place)), place, 0, None),
            "ahead": (After(Id(epoch, model.head + ahead)), 0, lost, "ahead"),
            "epoch": (After(Id(data.draw(st.sampled_from(self.old_epochs)), place)), 0, lost, "epoch"),
            "last": (Last(last), model.newest(topic_filter, last), lost, None),
        }
        start, cursor, told, gap = starts[data.draw(st.sampled_from(sorted(starts)))]
        socket = Socket()
        subscriber = self.broker.subscribe(topic_filter, SSE_JSON, socket)
        self.live[n] = (subscriber, socket)
        self.call(subscriber.start, start)
        self.settle()
        model.subscribers[n] = ModelSubscriber(topic_filter, cursor, told)
        model.read_on(model.subscribers[n], gap)
        return n

    @rule(target=subscribers, topic=st.sampled_from(TOPICS), names=st.sampled_from(FILTERS))
    def subscribe_in_the_turn_of_a_publish(self, topic: str, names: list[str]) -> int:
        """The batch of the turn is not written yet when a new subscriber of the same cohort comes."""
        model, n, body, socket = self.model, next(self.names), f"m{next(self.bodies)}", Socket()

        def both() -> None:
            self.broker.publish([draft(topic, body.encode())]).add_done_callback(asyncio.Future.exception)
            subscriber = self.broker.subscribe(TopicFilter(names), SSE_JSON, socket)
            subscriber.start(EARLIEST)
            self.live[n] = (subscriber, socket)

        refused = model.refuses(topic, 1)
        self.call(both)
        self.settle()
        if not refused:
            model.hand_out(model.append(topic, body, for_one=False, retain=True, ttl=None))
            model.trim(topic)
        model.subscribers[n] = ModelSubscriber(TopicFilter(names), 0, model.lost(TopicFilter(names)))
        model.read_on(model.subscribers[n])
        return n

    @rule(n=consumes(subscribers))
    def disconnect(self, n: int) -> None:
        if n in self.live:
            self.live.pop(n)[0].detach()
            del self.model.subscribers[n]

    @rule(n=subscribers)
    def socket_fills(self, n: int) -> None:
        if n in self.live and not self.model.subscribers[n].paused:
            self.call(self.live[n][0].pause)
            self.model.subscribers[n].paused = True
            self.model.subscribers[n].cursor = self.model.head

    @rule(n=subscribers)
    def socket_drains(self, n: int) -> None:
        if n in self.live and self.model.subscribers[n].paused:
            self.call(self.live[n][0].resume)
            self.settle()
            self.model.subscribers[n].paused = False
            self.model.read_on(self.model.subscribers[n])

    @rule(seconds=st.sampled_from([1.0, 6.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.model.pass_time(seconds)
        with suppress(NotFound):  # any question about a group makes the log do what is due
            self.run(self.broker.directory.group("nobody", "there"))

    @precondition(some_history)
    @rule(topic=st.sampled_from(TOPICS))
    def topic_is_deleted(self, topic: str) -> None:
        if topic in self.model.topics():
            self.call(self.broker.changes.drop, topic)
            groups = self.model.of(topic)
            self.model.drop(topic)
            self.end_consumers(groups)

    @precondition(some_history)
    @rule(topic=st.sampled_from(TOPICS), before=st.sampled_from([None, 0, 2, 5]))
    def topic_is_purged(self, topic: str, before: int | None) -> None:
        """`before`: so many messages from the newest one on stay."""
        if topic in self.model.topics():
            end = self.model.head if before is None else max(self.model.head - before, 0)
            place = None if before is None else ("an id", After(Id(self.broker.log.epoch, end + 1)))
            if place and end == self.model.head:
                place = None
            assert self.run(self.purged(topic, place)) == self.model.purge(topic, end)
            self.deal()

    async def purged(self, topic: str, before: tuple[str, Start] | None) -> int:
        return await self.broker.changes.purge(topic, before)

    # Groups

    @rule(
        topic=st.sampled_from(SHARED), name=st.sampled_from("gh"), ack_timeout=st.sampled_from([5.0, 30.0]),
        most=st.integers(1, 3), dead_letter=st.sampled_from(["a", "a.dead", "b.x", "b.y"]), place=st.integers(0, 9),
    )  # fmt: skip
    def put_group(
        self, topic: str, name: str, ack_timeout: float, most: int, dead_letter: str, place: int
    ) -> None:  # fmt: skip
        self.make_group(topic, name, ack_timeout, most, dead_letter, place)

    def make_group(
        self, topic: str, name: str, ack_timeout: float, most: int, dead_letter: str, place: int
    ) -> None:  # fmt: skip
        group = self.model.groups.get((topic, name))
        if group and any(consumer.group is group for consumer in self.working.values()):
            return
        changes = {"ack_timeout": ack_timeout, "max_deliveries": most, "dead_letter": dead_letter}
        cursor = min(place, self.model.head)
        start = None if group else ("an id", After(Id(self.broker.log.epoch, cursor)))
        if group and dead_letter != group.dead_letter and self.model.dead_of(group):
            with pytest.raises(DeadLettersLeft):
                self.call(partial(self.broker.changes.configure_group, make=True), topic, name, changes, start)
            return
        if self.model.leads_back(topic, dead_letter):
            with pytest.raises(OptionInvalid):
                self.call(partial(self.broker.changes.configure_group, make=True), topic, name, changes, start)
            return
        self.call(partial(self.broker.changes.configure_group, make=True), topic, name, changes, start)
        if group is None:
            self.model.groups[topic, name] = ModelGroup(
                topic, name, dead_letter, cursor, ack_timeout, most, self.model.lost(TopicFilter([topic])) > cursor
            )
        else:
            self.model.configure(group, ack_timeout, most, dead_letter)

    @precondition(lambda self: some_group(self) and some_history(self))
    @rule(data=st.data())
    def delete_group(self, data: st.DataObject) -> None:
        group = self.any_group(data)
        self.call(self.broker.changes.drop_group, group.topic, group.name)
        self.model.drop_group(group)
        self.end_consumers([group])

    def any_group(self, data: st.DataObject) -> ModelGroup:
        return self.model.groups[data.draw(st.sampled_from(sorted(self.model.groups)))]

    def end_consumers(self, groups: list[ModelGroup]) -> None:
        """Their workers were told; those that are held will be, when they ask again."""
        self.settle()
        for n, consumer in [(n, consumer) for n, consumer in self.working.items() if consumer.group in groups]:
            assert consumer.paused or consumer.socket.ends == ["deleted"]
            del self.working[n]
            self.call(consumer.worker.detach)

    @precondition(some_group)
    @rule(data=st.data(), count=st.integers(1, 3), lease=st.sampled_from([None, 2.0]))
    def pull(self, data: st.DataObject, count: int, lease: float | None) -> None:
        group = self.any_group(data)
        pulled = self.run(self.broker.pull(group.topic, group.name, make=False, count=count, lease=lease))
        assert (pulled.gap is not None) == (group.gone and not group.told)
        leases, works = pulled.leases, self.model.claim(group, count, lease)
        assert [(lease.message.seq, lease.attempt, lease.expires) for lease in leases] == [
            (work.seq, work.attempt, work.until) for work in works
        ]
        self.deal()

    @precondition(some_group)
    @rule(
        data=st.data(), action=st.sampled_from([*Action, Action.ACK]), seconds=st.sampled_from([None, 3.0]),
        attempt=st.sampled_from([None, 1, 2]), old=st.booleans(),
    )  # fmt: skip
    def settle_anything(
        self, data: st.DataObject, action: Action, seconds: float | None, attempt: int | None, old: bool
    ) -> None:
        group = self.any_group(data)
        seq = data.draw(st.integers(0, self.model.head + 1))
        epoch = self.old_epochs[-1] if old and seq % 4 == 0 else self.broker.log.epoch
        self.settled(group, action, LeaseId(Id(epoch, seq), attempt), seconds)

    @precondition(some_lease)
    @rule(
        data=st.data(), action=st.sampled_from([*Action, Action.ACK]), seconds=st.sampled_from([None, None, 0.0, 9.0])
    )
    def settle_a_lease(self, data: st.DataObject, action: Action, seconds: float | None) -> None:
        leases = [(group, work) for group in self.model.groups.values() for work in group.staged("leased")]
        group, work = data.draw(st.sampled_from(leases))
        seconds = seconds if seconds or action is Action.NACK else None
        self.settled(group, action, LeaseId(Id(self.broker.log.epoch, work.seq), work.attempt), seconds)

    def settled(self, group: ModelGroup, action: Action, id: LeaseId, seconds: float | None) -> None:
        async def settle() -> list[Outcome]:
            return await self.broker.settle(group.topic, group.name, action, [id], seconds)

        (outcome,) = self.run(settle())
        if id.message.epoch == self.broker.log.epoch:
            assert outcome == self.model.settle(group, action, id.message.seq, id.attempt, seconds)
        else:
            assert outcome is Outcome.UNKNOWN
        self.deal()

    @precondition(some_dead)
    @rule(data=st.data(), every=st.booleans(), rate=st.sampled_from([None, 1.0]))
    def redrive(self, data: st.DataObject, every: bool, rate: float | None) -> None:
        model = self.model
        group = data.draw(st.sampled_from([group for _, group in sorted(model.groups.items()) if model.dead_of(group)]))
        dead = model.dead_of(group)
        seqs = dead if every else data.draw(st.lists(st.sampled_from(dead), min_size=1, unique=True).map(sorted))
        ids = None if every else [Id(self.broker.log.epoch, seq) for seq in (*seqs, model.head + 1)]
        target = RedriveTarget(group.topic, group.name, group.dead_letter, rate)
        if model.refuses(group.topic, len(seqs)):
            with pytest.raises(LogFull):
                self.run(self.redriven(target, ids))
            return
        assert self.run(self.redriven(target, ids)) == Redriven(seqs, len(dead) - len(seqs))
        model.redrive(group, seqs, rate)
        self.deal()

    async def redriven(self, target: RedriveTarget, ids: list[Id] | None) -> Redriven:
        return await self.broker.changes.redrive(target, ids)

    @precondition(some_group)
    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        group = self.any_group(data)
        to = data.draw(st.integers(0, self.model.head))
        starts: dict[str, tuple[Start, int]] = {
            "after": (After(Id(self.broker.log.epoch, to)), to), "earliest": (EARLIEST, 0),
            "latest": (LATEST, self.model.head),
        }  # fmt: skip
        start, position = starts[data.draw(st.sampled_from(["after", *starts]))]
        self.call(self.broker.changes.seek, group.topic, group.name, ("somewhere", start))
        self.model.seek(group, position)
        self.deal()

    @precondition(some_group)
    @rule(data=st.data())
    def group_is_paused_or_resumed(self, data: st.DataObject) -> None:
        group = self.any_group(data)
        group.paused = not group.paused
        self.call(self.broker.changes.pause_group, group.topic, group.name, group.paused)
        self.deal()

    @precondition(some_group)
    @rule(target=push_consumers, data=st.data(), credit=st.integers(1, 2))
    def work(self, data: st.DataObject, credit: int) -> int:
        n, group, socket = next(self.names), self.any_group(data), WorkSocket()
        worker = self.broker.push(group.topic, group.name, SSE_LEASE, socket, credit=credit)
        self.working[n] = ModelConsumer(worker, socket, group, credit)
        self.call(worker.start)
        self.deal()
        return n

    @rule(n=consumes(push_consumers))
    def worker_leaves(self, n: int) -> None:
        if consumer := self.working.pop(n, None):
            held = consumer.held
            self.call(consumer.worker.detach)
            for lease in held:
                self.model.settle(consumer.group, Action.RETURN, lease.message.seq, lease.attempt, None)
            self.deal()

    @rule(n=push_consumers)
    def worker_is_held(self, n: int) -> None:
        if consumer := self.working.get(n):
            self.call(consumer.worker.pause)
            consumer.paused = True

    @rule(n=push_consumers)
    def worker_goes_on(self, n: int) -> None:
        if consumer := self.working.get(n):
            self.call(consumer.worker.resume)
            consumer.paused = False
            self.deal()

    def deal(self) -> None:
        """Who has room was given what there is: to whom is theirs to say, but each message to one."""
        self.settle()
        for group in self.model.groups.values():
            push_consumers = [consumer for consumer in self.working.values() if consumer.group is group]
            works = self.model.claim(group, room) if (room := sum(consumer.room for consumer in push_consumers)) else []
            given = []
            for consumer in push_consumers:
                new = consumer.socket.leases[len(consumer.given) :]
                given += [(lease.message.seq, lease.attempt) for lease in new]
                consumer.given += new
                assert len(consumer.held) <= consumer.credit
            assert sorted(given) == sorted((work.seq, work.attempt) for work in works)

    @precondition(some_history)
    @rule()
    def log_is_lost(self) -> None:
        self.stop()
        self.old_epochs.append(self.broker.log.epoch)
        self.open()

    def stop(self) -> None:
        for subscriber, _ in self.live.values():
            subscriber.detach()
        for consumer in self.working.values():
            self.call(consumer.worker.detach)
        self.run(self.broker.__aexit__())

    @invariant()
    def every_subscriber_got_what_it_must(self) -> None:
        for n, (_, socket) in self.live.items():
            assert socket.got == self.model.subscribers[n].got

    @invariant()
    def every_topic_keeps_what_it_must(self) -> None:
        states = {s.state.topic: s.state.messages for s in self.run(self.broker.directory.topics()).items}
        assert {t: n for t, n in states.items() if n} == {t: len(kept) for t, kept in self.model.topics().items()}

    @invariant()
    def every_group_is_where_it_must_be(self) -> None:
        self.deal()
        for (topic, name), group in self.model.groups.items():
            info = self.run(self.broker.directory.group(topic, name))
            state, fresh = info.state, self.model.fresh(group)
            assert (state.ready, state.leased, state.delayed, state.acked, state.dead_total, state.skipped) == (
                len(group.staged("ready")) + len(fresh), len(group.staged("leased")), len(group.staged("delayed")),
                group.counts["acked"], group.counts["dead"], group.counts["skipped"],
            )  # fmt: skip
            assert state.dead == len(self.model.dead_of(group))
            unacked = [*group.works, *(entry.seq for entry in fresh)]
            assert state.oldest == (f"{self.broker.log.epoch}-{min(unacked)}" if unacked else None)
            for job_state, seqs in self.model.listed(group).items():
                query = JobQuery(topic, name, JobState(job_state), 0, 100)
                page = self.run(self.listed(query))
                assert [job.message.seq for job in page.jobs] == seqs
            assert info.workers == len([consumer for consumer in self.working.values() if consumer.group is group])

    async def listed(self, query: JobQuery) -> JobPage:
        return await self.broker.log.jobs(query)

    def teardown(self) -> None:
        self.stop()
        self.loop.close()


class StoredMachine(Machine):
    """On a file that is opened again: after a stop in good order, or as it was in the middle of everything."""

    def open(self) -> None:
        self.folder = TemporaryDirectory(dir=MEMORY_FOLDER)
        self.starts = itertools.count()
        self.path = self.next_path()
        super().open()

    def next_path(self) -> Path:
        return Path(self.folder.name) / f"{next(self.starts)}.db"

    def serve(self) -> None:
        self.begin(SqliteEngine(self.limits, self.clock, self.path))

    def stop(self) -> None:
        super().stop()
        self.folder.cleanup()

    @rule()
    def restart(self) -> None:
        for subscriber, _ in self.live.values():
            subscriber.detach()
        self.live = {}
        self.call(self.broker.drain)
        self.settle()
        assert {tuple(consumer.socket.ends) for consumer in self.working.values()} <= {("draining",)}
        super().stop()
        self.go_on()

    @rule()
    def power_fails(self) -> None:
        self.settle()
        cut, self.path = self.path, self.next_path()
        for suffix in ("", "-wal"):
            shutil.copy(f"{cut}{suffix}", f"{self.path}{suffix}")
        super().stop()
        self.go_on()

    def go_on(self) -> None:
        """Nothing has changed, but nobody is there: leases that were bound to a connection are over."""
        for group in self.model.groups.values():
            group.overtaking = 0
        epoch = self.broker.log.epoch
        for consumer in self.working.values():
            for work in consumer.group.staged("leased"):
                if any((id.message.seq, id.attempt) == (work.seq, work.attempt) for id in consumer.given):
                    consumer.group.excuse(work)
        self.live, self.model.subscribers, self.working = {}, {}, {}
        self.serve()
        assert self.broker.log.epoch == epoch


MACHINES: dict[str, type[Machine]] = {
    **{name: type(name, (Machine,), {"make": staticmethod(engine)}) for name, engine in ENGINES.items()},
    "sqlite": StoredMachine,
}


EXAMPLES = dict.fromkeys(MACHINES, 150) | {"journal of three": 40}  # three nodes take three times as long


@pytest.mark.parametrize("name", MACHINES)
def test_no_sequence_of_events_tells_a_broker_from_the_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine: Any = MACHINES[name]
    monkeypatch.setattr(choice, "MAX_OVERTAKING", OVERTAKING)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    machine.TestCase.settings = settings(
        max_examples=EXAMPLES[name], stateful_step_count=40, deadline=None, suppress_health_check=checks
    )
    machine.TestCase("runTest").debug()
