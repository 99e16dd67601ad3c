"""A broker on each engine against the model: any sequence of publishes, readers, losses and restarts.

Readers are real ones on real cohorts; only their sockets are ours, so that they can be full whenever the machine likes.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from app.broker import Broker
from app.cohort import Reader
from app.engines.base import Engine
from app.engines.memory import MemoryEngine
from app.frames import SSE_JSON
from app.message import Delivery, Draft, Id
from app.position import EARLIEST, LATEST, After, Last, Start
from app.topic import Selector
from app.topiclog import Limits, Retention
from tests.engines.conftest import Clock
from tests.engines.model import Model, ModelReader
from tests.harness import SseParser

T = TypeVar("T")

MAX_MESSAGES, MAX_AGE = 4, 100.0
TOPICS = ["a", "b.x", "b.y", "b.y/z"]
SELECTIONS = [["a"], ["b.x"], ["b.*"], ["b.**"], ["**"], ["*"], ["a", "b.x"], ["a", "b.*"], ["b.y/*", "**"]]


class Socket:
    """A sink that takes everything, remembers it, and is full when it is told to be."""

    def __init__(self) -> None:
        self._parser = SseParser()
        self.got: list[str] = []

    def write(self, data: bytes) -> None:
        for event in self._parser.feed(data):
            record = json.loads(event.data)
            self.got.append(f"GAP {record['reason']}" if event.type == "gap" else record["data"])

    def pending(self) -> int:
        return 0

    def end(self, reason: str) -> None:
        raise AssertionError(f"nobody asked for an end: {reason}")

    def abort(self) -> None:
        raise AssertionError("nobody stalls here")


class Machine(RuleBasedStateMachine):
    make: Callable[[Limits, Clock], Engine]
    readers = Bundle("readers")

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.names = itertools.count()
        self.bodies = itertools.count()
        self.old_epochs = ["other"]
        self.open()

    def open(self) -> None:
        self.model = Model(MAX_MESSAGES, MAX_AGE)
        self.model.now = self.clock.now
        limits = Limits(Retention(MAX_MESSAGES, 1 << 20, MAX_AGE), topic_idle=1e9)
        self.broker = Broker(type(self).make(limits, self.clock))
        self.live: dict[int, tuple[Reader, Socket]] = {}
        self.run(self.broker.__aenter__())

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
        """Let every turn that is due happen: flushes, and pages of readers that catch up."""

        async def turns() -> None:
            for _ in range(8):
                await asyncio.sleep(0)

        self.run(turns())

    @rule(
        topic=st.sampled_from(TOPICS), count=st.integers(1, 3), for_one=st.booleans(), retain=st.booleans(),
        ttl=st.sampled_from([None, None, 5.0, 50.0]), same_turn=st.booleans(),
    )  # fmt: skip
    def publish(self, topic: str, count: int, for_one: bool, retain: bool, ttl: float | None, same_turn: bool) -> None:
        delivery = Delivery.ONE if for_one else Delivery.ALL
        bodies = [f"m{next(self.bodies)}" for _ in range(count)]
        drafts = [Draft(topic, b.encode(), delivery=delivery, retain=retain, ttl=ttl) for b in bodies]

        async def publish() -> None:
            for batch in [drafts] if same_turn else [[draft] for draft in drafts]:
                await self.broker.publish(batch)

        self.run(publish())
        self.settle()
        for body in bodies:
            if candidates := self.model.hand_out(self.model.append(topic, body, for_one, retain, ttl)):
                takers = [n for n in candidates if body in self.live[n][1].got]
                assert len(takers) == 1, f"{body} is for one, and went to {takers}"
                self.model.readers[takers[0]].got.append(body)
            self.model.trim(topic)

    @rule(target=readers, names=st.sampled_from(SELECTIONS), data=st.data())
    def subscribe(self, names: list[str], data: st.DataObject) -> int:
        selector, model, n = Selector(names), self.model, next(self.names)
        epoch, lost = self.broker.engine.epoch, model.lost(selector)
        place, ahead, last = data.draw(st.tuples(st.integers(0, model.head), st.integers(1, 9), st.integers(0, 6)))
        starts: dict[str, tuple[Start, int, int, str | None]] = {
            "latest": (LATEST, model.head, 0, None),
            "earliest": (EARLIEST, 0, lost, None),
            "after": (After(Id(epoch, place)), place, 0, None),
            "ahead": (After(Id(epoch, model.head + ahead)), 0, lost, "ahead"),
            "epoch": (After(Id(data.draw(st.sampled_from(self.old_epochs)), place)), 0, lost, "epoch"),
            "last": (Last(last), model.newest(selector, last), lost, None),
        }
        start, cursor, told, gap = starts[data.draw(st.sampled_from(sorted(starts)))]
        socket = Socket()
        reader = self.broker.subscribe(selector, SSE_JSON, socket)
        self.live[n] = (reader, socket)
        self.call(reader.start, start)
        self.settle()
        model.readers[n] = ModelReader(selector, cursor, told)
        model.read_on(model.readers[n], gap)
        return n

    @rule(target=readers, topic=st.sampled_from(TOPICS), names=st.sampled_from(SELECTIONS))
    def subscribe_in_the_turn_of_a_publish(self, topic: str, names: list[str]) -> int:
        """The batch of the turn is not written yet when a new reader of the same cohort comes."""
        model, n, body, socket = self.model, next(self.names), f"m{next(self.bodies)}", Socket()

        def both() -> None:
            self.broker.publish([Draft(topic, body.encode())])
            reader = self.broker.subscribe(Selector(names), SSE_JSON, socket)
            reader.start(EARLIEST)
            self.live[n] = (reader, socket)

        self.call(both)
        self.settle()
        model.hand_out(model.append(topic, body, for_one=False, retain=True, ttl=None))
        model.trim(topic)
        model.readers[n] = ModelReader(Selector(names), 0, model.lost(Selector(names)))
        model.read_on(model.readers[n])
        return n

    @rule(n=consumes(readers))
    def disconnect(self, n: int) -> None:
        if n in self.live:
            self.live.pop(n)[0].close()
            del self.model.readers[n]

    @rule(n=readers)
    def socket_fills(self, n: int) -> None:
        if n in self.live and not self.model.readers[n].paused:
            self.call(self.live[n][0].pause)
            self.model.readers[n].paused = True
            self.model.readers[n].cursor = self.model.head

    @rule(n=readers)
    def socket_drains(self, n: int) -> None:
        if n in self.live and self.model.readers[n].paused:
            self.call(self.live[n][0].resume)
            self.settle()
            self.model.readers[n].paused = False
            self.model.read_on(self.model.readers[n])

    @rule(seconds=st.sampled_from([1.0, 6.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.model.pass_time(seconds)

    @rule(topic=st.sampled_from(TOPICS))
    def topic_is_deleted(self, topic: str) -> None:
        if topic in self.model.topics():
            self.call(self.broker.drop, topic)
            self.model.drop(topic)

    @rule()
    def restart_loses_everything(self) -> None:
        for reader, _ in self.live.values():
            reader.close()
        self.run(self.broker.__aexit__())
        self.old_epochs.append(self.broker.engine.epoch)
        self.open()

    @invariant()
    def every_reader_got_what_it_must(self) -> None:
        for n, (_, socket) in self.live.items():
            assert socket.got == self.model.readers[n].got

    @invariant()
    def every_topic_keeps_what_it_must(self) -> None:
        states = {s.state.topic: s.state.messages for s in self.run(self.broker.topics())}
        assert {t: n for t, n in states.items() if n} == {t: len(kept) for t, kept in self.model.topics().items()}

    def teardown(self) -> None:
        for reader, _ in self.live.values():
            reader.close()
        self.run(self.broker.__aexit__())
        self.loop.close()


@pytest.mark.parametrize("engine", [MemoryEngine])
def test_no_sequence_of_events_tells_a_broker_from_the_model(engine: Callable[[Limits, Clock], Engine]) -> None:
    machine: Any = type(f"{engine.__name__}Machine", (Machine,), {"make": staticmethod(engine)})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    machine.TestCase.settings = settings(
        max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=checks
    )
    machine.TestCase("runTest").debug()
