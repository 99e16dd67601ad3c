"""What the log counts for a message and a topic covers what they really take."""

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from app.log import Log
from app.message import Draft
from app.topiclog import MESSAGE_COST, TOPIC_COST, Limits, Retention

COUNT = 5_000


def grown(work: Callable[[int], object]) -> float:
    """Bytes that one of COUNT pieces of work leaves behind."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(COUNT):
            work(n)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / COUNT
    finally:
        tracemalloc.stop()


@pytest.fixture
def log() -> Log:
    return Log(Limits(Retention(1 << 40, 1 << 60, 1e9), total_bytes=1 << 60, topics=1 << 40), "k3f9a2xq")


def test_a_kept_message_takes_no_more_than_it_is_counted_for(log: Log) -> None:
    for ttl in (None, 1_000.0):
        taken = grown(lambda n: log.accept(Draft("a", b"x" * 100 + b"%d" % n, ttl=ttl), float(n) / COUNT))  # noqa: B023
        assert 0.4 * MESSAGE_COST < taken - 100 < MESSAGE_COST


def test_a_topic_takes_no_more_than_it_is_counted_for(log: Log) -> None:
    taken = grown(lambda n: log.accept(Draft(f"topic.number.{n}", b""), float(n) / COUNT))
    assert 0.4 * (TOPIC_COST + MESSAGE_COST) < taken < TOPIC_COST + MESSAGE_COST


def test_messages_that_were_handed_out_leave_nothing_behind_one_that_stays(log: Log) -> None:
    log.accept(Draft("a", b"stays"), 0.0)
    taken = grown(lambda n: log.remove(log.accept(Draft("a", b"goes"), float(n) / COUNT)))
    assert taken < 4
