"""An idle server writes a message at once. A busy one pauses after each write, so it writes less often, and more each
time."""

from asyncio import AbstractEventLoop, Future, new_event_loop
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from app.fanout.cohort import SMALL_BATCH_BYTES, Cohort
from app.fanout.fanout import Fanout
from app.limits.admission import Admission
from app.limits.buffered_bytes import OutboundBudget
from app.limits.quotas import Quotas
from app.log.reading import Page
from app.log.run import make_runs
from app.messages.filter_index import FilterIndex
from app.messages.position import LATEST, Cursor, Start
from app.messages.topic import TopicFilter
from app.net.progress import Progress
from app.tcp.encoders import LITERAL, TEXT
from app.telemetry.counters import Counters
from app.telemetry.loop_lag import LoopLag
from tests.harness import draft

TOPIC = TopicFilter(["t"])
COST = 0.004  # seconds of one write


class Turns:
    """An event loop: the test runs its turns and sets its time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: list[Callable[[], object]] = []
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.troubles: list[dict[str, Any]] = []

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.troubles.append(context)

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], object]) -> None:
        self.soon.append(call)

    def call_later(self, delay: float, call: Callable[[], object]) -> None:
        self.later.append((self.now + delay, call))

    def turn(self) -> None:
        due = [call for when, call in self.later if when <= self.now]
        self.later = [(when, call) for when, call in self.later if when > self.now]
        calls, self.soon = [*self.soon, *due], []
        for call in calls:
            call()


class EmptyLog:
    epoch = "e"

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:  # noqa: ARG002
        return False

    def locate(self, topic_filter: TopicFilter, start: Start) -> "Future[Cursor]":  # noqa: ARG002
        return done(Cursor(0, 0))

    def read(self, topic_filter: TopicFilter, cursor: Cursor, *, limit: int, nbytes: int, take: bool) -> "Future[Page]":
        raise AssertionError((topic_filter, cursor, limit, nbytes, take))

    def taken(self, seqs: Sequence[int]) -> None:
        raise AssertionError(seqs)

    def give_back(self, seqs: Sequence[int]) -> "Future[None]":
        raise AssertionError(seqs)


class SlowSink:
    """A sink whose writes take COST seconds; it stores what was written."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.writes: list[list[str]] = []

    def write(self, data: bytes) -> None:
        self._turns.now += COST
        self.writes.append([line.split()[-1] for line in data.decode().splitlines()])

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return Progress(0, 0)

    def end(self, reason: str) -> None:
        raise AssertionError(reason)

    def abort(self) -> None:
        raise AssertionError


def done(result: Any) -> "Future[Any]":
    future: Future[Any] = Future(loop=_LOOP)
    future.set_result(result)
    return future


_LOOP = new_event_loop()  # never run: what is done needs no turn
_LOOP.close()


class Bench:
    """A subscriber to one topic, at the head."""

    def __init__(self, coalesce: float) -> None:
        self.turns = Turns()
        loop = cast(AbstractEventLoop, self.turns)
        outbound = OutboundBudget(1 << 20, loop)
        admission = Admission(1_000, Quotas(), LoopLag())
        self.fanout = Fanout(
            EmptyLog(), loop, 10.0, Counters(), outbound, admission=admission, coalesce=coalesce, clock=self.turns.time
        )
        self.sink = SlowSink(self.turns)
        self.fanout.subscribe(TOPIC, TEXT, self.sink).start(LATEST)

    def publish(self, *bodies: str) -> None:
        for body in bodies:
            seq = self.fanout.head + 1
            self.fanout.deliver([*make_runs(draft("t", body.encode()), "e", seq, seq - 1, 0.0)])


def test_a_single_message_is_written_in_the_same_turn() -> None:
    bench = Bench(0.01)
    for number in range(3):
        bench.publish(str(number))
        bench.turns.turn()
        assert bench.sink.writes[-1] == [str(number)]
        bench.turns.now += 1.0


def test_messages_that_arrive_during_a_pause_are_written_together() -> None:
    bench = Bench(0.01)
    bench.publish("a", "b")
    bench.turns.turn()
    assert bench.sink.writes == [["a", "b"]]
    for body in ("c", "d", "e"):
        bench.publish(body)
        bench.turns.turn()
    assert bench.sink.writes == [["a", "b"]]
    bench.turns.now += 2.1 * COST
    bench.turns.turn()
    assert bench.sink.writes == [["a", "b"], ["c", "d", "e"]]


@pytest.mark.parametrize(
    ("coalesce", "first", "rest"),
    [
        (COST / 2, ["a"], COST / 2),
        (10 * COST, ["a"], COST),
        (10 * COST, ["a"] * 2, 2 * COST),
        (10 * COST, ["a"] * 100, 2 * COST),
        (COST / 2, ["a"] * 100, COST / 2),
        (10 * COST, ["a" * SMALL_BATCH_BYTES, "a"], COST),
    ],
    ids=["bounded", "one", "two", "many", "many-bounded", "large"],
)
def test_a_pause_is_as_long_as_the_write_or_twice_as_long_after_several_messages_and_bounded(
    coalesce: float, first: list[str], rest: float
) -> None:
    bench = Bench(coalesce)
    bench.publish(*first)
    bench.turns.turn()
    bench.publish("b")
    bench.turns.now += 0.9 * rest
    bench.turns.turn()
    assert bench.sink.writes == [first]
    bench.turns.now += 0.2 * rest
    bench.turns.turn()
    assert bench.sink.writes == [first, ["b"]]


def test_zero_is_never() -> None:
    bench = Bench(0.0)
    for body in ("a", "b"):
        bench.publish(body)
        bench.turns.turn()
    assert bench.sink.writes == [["a"], ["b"]]


def test_a_bounded_number_of_topics_is_remembered_with_the_right_subscribers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.messages.filter_index.MAX_REMEMBERED", 5)  # cohorts, plus one per topic
    searched = recorded_searches(monkeypatch)
    bench = Bench(0.0)
    wide = SlowSink(bench.turns)
    bench.fanout.subscribe(TopicFilter(["*"]), TEXT, wide).start(LATEST)
    for topic in ("t", "u", "v", "t", "w", "t"):
        seq = bench.fanout.head + 1
        bench.fanout.deliver([*make_runs(draft(topic, b"%d" % seq), "e", seq, 0, 0.0)])
        bench.turns.turn()
    assert searched == ["t", "u", "v", "t", "w"]  # t takes three of the five, u two; v has all forgotten
    assert bench.sink.writes == [["1"], ["4"], ["6"]]
    assert wide.writes == [[str(number)] for number in range(1, 7)]


def recorded_searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The topics whose subscribers are looked up from now on, since they are not remembered."""
    searched: list[str] = []
    find = FilterIndex.find

    def recorded(index: FilterIndex[Cohort], topic: str) -> tuple[Cohort, ...]:
        searched.append(topic)
        return find(index, topic)

    monkeypatch.setattr(FilterIndex, "find", recorded)
    return searched


def test_a_message_that_cannot_be_delivered_keeps_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(0.0)
    other = SlowSink(bench.turns)
    bench.fanout.subscribe(TOPIC, LITERAL, other).start(LATEST)
    encode = type(TEXT).encode
    monkeypatch.setattr(
        type(TEXT), "encode", lambda form, message: encode(form, message) if message.seq != 2 else 1 / 0
    )
    assert bench.fanout.deliver([*make_runs(draft("t", b"1", b"2", b"3"), "e", 1, 0, 0.0)]) == {1: 2, 3: 2}
    bench.turns.turn()
    assert bench.sink.writes == [["1", "3"]]
    assert len(other.writes[0]) == 3  # its form has no fault
    assert bench.fanout.head == 3
    assert len(bench.turns.troubles) == 1


class BrokenSink(SlowSink):
    aborted = False

    def write(self, data: bytes) -> None:
        raise RuntimeError(data)

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("pattern", ["t", "**"], ids=["of the same cohort", "of another"])
def test_a_sink_that_fails_is_cut_off_and_keeps_no_bytes_from_the_other_subscribers(pattern: str) -> None:
    bench = Bench(0.0)
    broken, other = BrokenSink(bench.turns), SlowSink(bench.turns)
    for sink in (broken, other):
        bench.fanout.subscribe(TopicFilter([pattern]), TEXT, sink).start(LATEST)
    for _ in range(2):
        bench.publish("x")
        bench.turns.turn()
    assert broken.aborted
    assert other.writes == bench.sink.writes == [["x"], ["x"]]
    assert {trouble["message"] for trouble in bench.turns.troubles} == {"a subscriber was cut off: its sink failed"}
