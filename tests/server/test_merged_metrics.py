"""How the figures of several workers become those of one server."""

import asyncio

import msgspec
import pytest

from app.broker.activity import Activity, Counts, Levels
from app.server.workers.activity import MergedActivity
from app.server.workers.exchange import Exchange
from app.server.workers.messages import Ask
from app.server.workers.metrics import MergedMetrics
from app.web.api.prometheus import GREATEST, LEAST, Family
from tests.web.test_metrics import DOCUMENTED

REQUESTS, PUBLISHED = "plainmq_http_requests", "plainmq_messages_published"


def family(name: str, value: float, kind: str = "counter", **labels: str) -> Family:
    sample = f"{name}_total" if kind == "counter" else name
    return Family(name, "", kind, [((sample, (*labels.items(),)), value)])


class Merged:
    def __init__(self) -> None:
        self.metrics = MergedMetrics()

    def answered(self, worker: str, *families: Family) -> None:
        self.metrics.answered(worker, msgspec.msgpack.encode(families))

    def __getitem__(self, name: str) -> float:
        found = msgspec.msgpack.decode(self.metrics.merged(), type=list[Family])
        ((_, value),) = next(family.samples for family in found if family.name == name)
        return value


@pytest.fixture
def merged() -> Merged:
    return Merged()


def test_what_each_worker_does_is_added_up_and_stays_when_it_ends(merged: Merged) -> None:
    merged.answered("a", family(REQUESTS, 3))
    merged.answered("b", family(REQUESTS, 4))
    assert merged[REQUESTS] == 7
    merged.answered("a", family(REQUESTS, 5))
    assert merged[REQUESTS] == 9
    merged.metrics.ended("a")
    assert merged[REQUESTS] == 9
    merged.answered("c", family(REQUESTS, 1))
    assert merged[REQUESTS] == 10


def test_what_a_worker_has_now_ends_with_it(merged: Merged) -> None:
    tasks = "plainmq_tasks"
    merged.answered("a", family(tasks, 3, "gauge"))
    merged.answered("b", family(tasks, 4, "gauge"))
    assert merged[tasks] == 7
    merged.metrics.ended("a")
    assert merged[tasks] == 4


def test_what_all_have_alike_is_told_once(merged: Merged) -> None:
    merged.answered("a", family("plainmq_messages", 3, "gauge"), family(PUBLISHED, 3))
    merged.answered("b", family("plainmq_messages", 4, "gauge"), family(PUBLISHED, 4))
    assert merged["plainmq_messages"] == 4
    assert merged[PUBLISHED] == 4


def test_a_counter_that_all_have_alike_goes_on_when_each_of_them_was_replaced(merged: Merged) -> None:
    merged.answered("a", family(PUBLISHED, 100))
    merged.answered("b", family(PUBLISHED, 100))
    assert merged[PUBLISHED] == 100
    merged.metrics.ended("a")
    merged.answered("b", family(PUBLISHED, 150))
    merged.answered("c", family(PUBLISHED, 10))  # it came when there were 140
    assert merged[PUBLISHED] == 150
    merged.metrics.ended("b")
    merged.answered("c", family(PUBLISHED, 30))
    assert merged[PUBLISHED] == 170
    merged.metrics.ended("c")
    merged.answered("d", family(PUBLISHED, 5))
    assert merged[PUBLISHED] == 170
    merged.answered("d", family(PUBLISHED, 15))
    assert merged[PUBLISHED] == 180


def test_what_describes_a_server_is_told_once(merged: Merged) -> None:
    info = Family("plainmq", "", "info", [(("plainmq_info", (("version", "1"),)), 1.0)])
    merged.answered("a", info)
    merged.answered("b", info)
    assert merged["plainmq"] == 1


def test_the_start_is_that_of_the_first_process(merged: Merged) -> None:
    merged.answered("a", family("process_start_time_seconds", 10.0, "gauge"))
    merged.answered("b", family("process_start_time_seconds", 20.0, "gauge"))
    assert merged["process_start_time_seconds"] == 10.0


ADDED_UP = {
    *("plainmq_connections", "plainmq_subscribers", "plainmq_workers", "plainmq_tasks"),
    *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"),
}


def test_it_is_decided_for_every_gauge_how_those_of_workers_become_one() -> None:
    gauges = {name for name, (kind, *_) in DOCUMENTED.items() if kind == "gauge" and not name.endswith("_info")}
    assert gauges == ADDED_UP | LEAST | (GREATEST & gauges)
    assert DOCUMENTED.keys() >= GREATEST


def test_restarts_are_counted(merged: Merged) -> None:
    merged.answered("a", family("plainmq_worker_restarts", 0))
    merged.metrics.ended("a")
    assert merged["plainmq_worker_restarts"] == 1


def test_activity_is_added_up_and_what_was_counted_stays() -> None:
    merged = MergedActivity()
    for worker, delivered, lag in (("a", 3, 0.5), ("b", 4, 0.1)):
        activity = Activity(Counts(delivered=delivered), Levels(slots=1), lag)
        merged.answered(worker, msgspec.msgpack.encode(activity))
    assert decoded(merged) == Activity(Counts(delivered=7), Levels(slots=2), 0.5)
    merged.ended("a")
    assert decoded(merged) == Activity(Counts(delivered=7), Levels(slots=1), 0.1)


class Stopped:
    """A worker that has answered once, and does not any more."""

    can_answer = True

    def __init__(self) -> None:
        self.asked = 0

    def tell(self, _question: str, _about: bytes) -> "asyncio.Future[bytes]":
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked += 1
        if self.asked == 1:
            answer.set_result(activity(delivered=3))
        return answer


def activity(delivered: int) -> bytes:
    return msgspec.msgpack.encode(Activity(Counts(delivered=delivered)))


async def test_the_last_answer_of_a_worker_that_does_not_answer_counts() -> None:
    exchange, stopped = Exchange(), Stopped()
    for delivered in (4, 5):
        answer = await exchange.merged(Ask(1, "activity", activity(delivered), b""), "asker", [stopped])
        assert msgspec.msgpack.decode(answer, type=Activity).counts.delivered == delivered + 3
    assert stopped.asked == 2


def decoded(merged: MergedActivity) -> Activity:
    return msgspec.msgpack.decode(merged.merged(), type=Activity)
