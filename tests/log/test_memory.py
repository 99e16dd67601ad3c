"""What the log counts for a message and a topic covers what they really take."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

import pytest

from app.fanout.fanout import Fanout
from app.fanout.transit import Shipment, UnackedWrite
from app.fanout.wakeup import Wakeup
from app.limits.admission import Admission
from app.limits.buffered_bytes import OutboundBudget
from app.limits.quotas import SLOT_MEMORY, Quotas
from app.log.epochs import Epochs
from app.log.groups.admin import GroupAdmin
from app.log.groups.events import NO_EVENTS
from app.log.groups.group import Group
from app.log.groups.groups import Groups
from app.log.groups.job import JOB_COST, KEY_COST
from app.log.groups.ordered_keys import KEY_LOOKAHEAD, WAITING_COST
from app.log.groups.precedence import PRECEDENCE_COST
from app.log.groups.records import GroupSettings
from app.log.groups.size import GROUP_COST, RECENT_DEAD_COST
from app.log.log import Log
from app.log.reading import Reading
from app.log.run import (
    DEATH_COST,
    EXPIRY_COST,
    HEADERS_COST,
    MAX_RUN_LENGTH,
    MESSAGE_COST,
    ONE_COST,
    ORDERING_COST,
    REDRIVE_COST,
)
from app.log.store import MemoryMessageStore
from app.log.topic_log import TOPIC_COST, Limits, Retention
from app.log.trimmer import Trimmer
from app.messages.lease import Action, Lease, LeaseId, Outcome
from app.messages.message import BODY_PLACEHOLDER, ONE, Death, Delivery, Id, Redrive
from app.messages.ordering import MAX_ORDER_KEY, Ordering
from app.messages.position import LATEST
from app.messages.topic import TopicFilter
from app.telemetry.counters import Counters
from app.telemetry.loop_lag import LoopLag
from app.web.sse import SSE_RAW
from tests.harness import draft, whole

COUNT = 5_000
LETTERS = "abcdefghijklmn"


def grown(work: Callable[[int], object], count: int = COUNT) -> float:
    """Bytes that one of so many pieces of work leaves behind."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(count):
            work(n)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()


@pytest.fixture
def log() -> Log:
    return Log(
        Limits(
            Retention(1 << 40, 1 << 60, 1e9), total_bytes=1 << 60, topics=1 << 40, groups=COUNT, memory_bytes=1 << 60
        ),
        Epochs("k3f9a2xq"),
        MemoryMessageStore(),
    )


def test_a_kept_message_takes_no_more_than_it_is_counted_for(log: Log) -> None:
    for ttl in (None, 1_000.0):
        taken = grown(lambda n: log.accept([draft("a", b"x" * 100 + b"%d" % n, ttl=ttl)], float(n) / COUNT))  # noqa: B023
        assert 0.4 * MESSAGE_COST < taken - 100 < MESSAGE_COST + (EXPIRY_COST if ttl else 0)


def test_a_message_keeps_no_topic_s_name_of_its_own(log: Log) -> None:
    def work(n: int) -> None:
        log.accept([draft("".join(["x"] * 1_000), b"%d" % n)], float(n) / COUNT)

    assert grown(work) < MESSAGE_COST


def test_what_is_left_of_messages_that_came_together_takes_no_more_than_it_is_counted_for(log: Log) -> None:
    """A group may have acked all between the first and the last."""

    def work(n: int) -> None:
        (run,) = log.accept([draft("a", *[b"%d" % n] * MAX_RUN_LENGTH)], float(n) / COUNT)
        for message in [*run.messages][1:-1]:
            log.remove(message)

    assert 0.4 * MESSAGE_COST < grown(work, 500) / 2 < MESSAGE_COST
    assert log.topics["a"].messages.live == 1_000


def test_a_topic_takes_no_more_than_it_is_counted_for(log: Log) -> None:
    taken = grown(lambda n: log.accept([draft(f"topic.number.{n}", b"")], float(n) / COUNT))
    assert 0.4 * (TOPIC_COST + MESSAGE_COST) < taken < TOPIC_COST + MESSAGE_COST


@pytest.mark.parametrize("length", [40, 500])
def test_a_topic_that_has_lost_its_messages_keeps_no_long_line_of_theirs(log: Log, length: int) -> None:
    def work(n: int) -> None:
        line = b"{'command':'send', 'topic':'".ljust(length, b"x") + BODY_PLACEHOLDER
        (run,) = log.accept([draft(f"topic.number.{n}", b"", line=line)], float(n) / COUNT)
        log.remove(next(run.messages))

    assert grown(work) < TOPIC_COST


def test_a_line_that_differs_in_its_message_only_is_kept_once(log: Log) -> None:
    def work(n: int) -> None:
        line = b"".join([b"{'command':'send', 'topic':'a', 'msg':'", BODY_PLACEHOLDER, b"'}\n"])
        log.accept([draft("a", b"x" * 100 + b"%d" % n, line=line)], float(n) / COUNT)

    assert grown(work) - 100 < MESSAGE_COST


def test_the_story_of_a_dead_message_takes_no_more_than_it_is_counted_for(log: Log) -> None:
    def give_up(n: int) -> None:
        death = Death(f"k3f9a2xq-{n}", "a", "g" * 16, n + 1_000, "the worker's connection was lost", n + 0.5, n + 0.7)
        log.accept([draft("a.dead", b"", death=death)], float(n) / COUNT)

    assert 0.4 * DEATH_COST < grown(give_up) - grown(lambda n: log.accept([draft("b", b"")], float(n))) < DEATH_COST


def test_a_redriven_message_takes_no_more_than_it_is_counted_for(log: Log) -> None:
    def work(n: int) -> None:
        back = Redrive("g" * 16, f"k3f9a2xq-{n}")
        log.accept([draft("a", b"", redrive=back)], float(n) / COUNT)

    bare = grown(lambda n: log.accept([draft("b", b"")], float(n)))
    assert 0.4 * REDRIVE_COST < grown(work) - bare < REDRIVE_COST


def test_headers_take_no_more_than_they_are_counted_for(log: Log) -> None:
    def work(n: int) -> None:
        log.accept([draft("a", b"", headers=b'{"n":"%04d"}' % n)], float(n) / COUNT)

    bare = grown(lambda n: log.accept([draft("b", b"")], float(n)))
    taken = grown(work)
    assert bare < taken < MESSAGE_COST + HEADERS_COST + len(b'{"n":"1234"}')


@pytest.mark.parametrize("delivery", Delivery)
def test_an_ordering_takes_no_more_than_it_is_counted_for(log: Log, delivery: Delivery) -> None:
    def work(n: int) -> None:
        ordering = Ordering(n % 9 + 1, f"{n:0{MAX_ORDER_KEY}}")
        log.accept([draft("a", b"", ordering=ordering, delivery=delivery)], float(n) / COUNT)

    bare = grown(lambda n: log.accept([draft("b", b"", delivery=delivery)], float(n)))
    cost = ORDERING_COST + MAX_ORDER_KEY
    assert 0.4 * cost < grown(work) - bare < cost


@pytest.mark.parametrize("waits", [False, True])
def test_what_is_for_one_takes_no_more_than_it_is_counted_for(log: Log, waits: bool) -> None:
    shipment = Shipment(0.0)

    def work(n: int) -> None:
        (run,) = log.accept([draft("a", b"", delivery=ONE)], 0.0)
        if waits:
            log.give_back([run.seq])
        else:
            shipment.add([UnackedWrite(run.seq, n + 100_000)])

    taken = grown(work) - grown(lambda n: log.accept([draft("b", b"")], float(n)))
    assert taken < ONE_COST
    assert waits or taken > 0.4 * ONE_COST


@pytest.fixture
def trimmer(log: Log) -> Trimmer:
    return Trimmer(log)


@pytest.fixture
def groups(log: Log, trimmer: Trimmer) -> Groups:
    return Groups(log, trimmer)


@pytest.fixture
def admin(log: Log, trimmer: Trimmer, groups: Groups) -> GroupAdmin:
    admin = GroupAdmin(log, trimmer, Reading(log), groups)
    whole(admin.configure("a", "g", {}, None, 0.0))
    return admin


def lease(groups: Groups, log: Log, n: int) -> Lease:
    log.accept([draft("a", b"")], 0.0)
    (lease,) = groups.claim("a", "g", count=1, nbytes=1, seconds=1_000.0 + n, now=0.0)
    return lease


def settle(groups: Groups, action: Action, seq: int) -> Outcome:
    (outcome,) = groups.settle("a", "g", action, [LeaseId(Id("k3f9a2xq", seq))], seconds=None, now=0.0)
    return outcome


def test_a_group_takes_no_more_than_it_is_counted_for(log: Log, admin: GroupAdmin) -> None:
    taken = grown(lambda n: whole(admin.configure(f"b{n}", "g", {}, None, 0.0)))
    taken -= grown(lambda n: log.make(f"c{n}", 0.0))
    assert 0.4 * GROUP_COST < taken < GROUP_COST


@pytest.mark.usefixtures("admin")
def test_a_leased_message_takes_no_more_than_it_is_counted_for(log: Log, groups: Groups) -> None:
    taken = grown(lambda n: lease(groups, log, n))
    assert 0.4 * JOB_COST < taken - grown(lambda n: log.accept([draft("b", b"")], float(n))) < JOB_COST


@pytest.mark.usefixtures("admin")
def test_a_held_key_takes_no_more_than_it_is_counted_for(log: Log, groups: Groups) -> None:
    def work(n: int) -> None:
        log.accept([draft("a", b"", ordering=Ordering(0, f"{n:0100}"))], 0.0)
        assert groups.claim("a", "g", count=1, nbytes=1, seconds=1_000.0 + n, now=0.0)

    job = JOB_COST + KEY_COST + 100
    taken = grown(work) - grown(lambda n: log.accept([draft("b", b"", ordering=Ordering(0, f"{n:0100}"))], float(n)))
    assert 0.3 * job < taken < job  # its key is also that of the message


@pytest.mark.usefixtures("admin")
def test_what_waits_for_a_key_takes_no_more_than_it_is_counted_for(log: Log, groups: Groups) -> None:
    log.accept([draft("a", b"", ordering=Ordering(0, "k"))], 0.0)
    assert groups.claim("a", "g", count=1, nbytes=1, seconds=9.0, now=0.0)

    def work(_n: int) -> None:
        log.accept([draft("a", b"", ordering=Ordering(0, "k"))], 0.0)
        assert not groups.claim("a", "g", count=1, nbytes=1, seconds=9.0, now=0.0)

    bare = grown(lambda n: log.accept([draft("b", b"", ordering=Ordering(0, "k"))], float(n)), KEY_LOOKAHEAD)
    taken = grown(work, KEY_LOOKAHEAD) - bare
    assert 0.3 * (JOB_COST + WAITING_COST) < taken < JOB_COST + WAITING_COST


def test_what_a_group_knows_of_priorities_takes_no_more_than_it_is_counted_for() -> None:
    groups = []

    def work(_n: int) -> None:
        groups.append(group := Group(GroupSettings("a.dead"), 0))
        mind = group.precede()
        for level in range(10):
            mind.ready[level] = [10_000 + level]
            mind.searched[level] = 20_000 + level

    def bare(_n: int) -> None:
        groups.append(Group(GroupSettings("a.dead"), 0))

    assert 0.4 * PRECEDENCE_COST < grown(work, 500) - grown(bare, 500) < PRECEDENCE_COST


@pytest.mark.parametrize("length", [1, 120])
def test_many_groups_of_a_topic_take_no_more_than_they_are_counted_for(log: Log, length: int) -> None:
    trimmer = Trimmer(log)
    admin = GroupAdmin(log, trimmer, Reading(log), Groups(log, trimmer))

    def work(n: int) -> None:
        name = "".join(["g"] * length)
        whole(admin.configure("a", f"{name}{n}", {"dead_letter": f"{name * 8}{n}"}, None, 0.0))

    taken, counted = grown(work, 1_000), ((1 << 60) - log.memory.left()) / 1_000
    assert 0.4 * counted < taken < counted


def test_a_dead_message_that_a_group_remembers_takes_no_more_than_it_is_counted_for() -> None:
    group = Group(GroupSettings("a.dead", max_deliveries=1), 0)

    def give_up(n: int) -> None:
        group.lease(n + 1, 0.0, 1.0)
        assert group.settle(Action.NACK, n + 1, 1, 0.0, None) is Outcome.DONE
        group.dead_letter(n + 1)
        group.jobs.dirty.clear()
        group.jobs.ended_leases.clear()

    assert 0.4 * RECENT_DEAD_COST < grown(give_up) < RECENT_DEAD_COST


def _long(prefix: str, count: int, length: int) -> list[str]:
    return [f"{prefix}.{number}".ljust(length, "x") for number in range(count)]


@pytest.mark.parametrize(
    "names",
    [
        lambda n: [f"t{n}"],
        lambda n: _long(f"t{n}", 64, 10),
        lambda n: _long(f"t{n}", 64, 100),
        lambda n: [f"t{n}.**"],
        lambda n: [f"t{n}.{number}.*" for number in range(64)],
        lambda n: [f"{name}.*" for name in _long(f"t{n}", 7, 1_000)],
        lambda n: [".".join([f"t{n}", *f"{number:014}", "*"]) for number in range(64)],
        lambda n: [".".join([f"t{n}", *(f"{n}{letter}{number}" for letter in LETTERS), "*"]) for number in range(64)],
    ],
    ids=["topic", "topics", "long topics", "pattern", "patterns", "long patterns", "segments", "long segments"],
)  # fmt: skip
async def test_a_filter_takes_no_more_memory_than_its_slots(names: Callable[[int], list[str]]) -> None:
    counters, loop = Counters(), asyncio.get_running_loop()
    admission = Admission(1 << 20, Quotas(), LoopLag())
    fanout = Fanout(Nowhere(), loop, 1.0, counters, OutboundBudget(1 << 30, loop), admission=admission)  # type: ignore[arg-type]

    def work(n: int) -> None:
        topic_filter = TopicFilter(names(n + 1_000_000))
        topic_filter.matches("a.b")
        fanout.subscribe(topic_filter, SSE_RAW, Wakeup()).start(LATEST)

    taken, count = grown(work, 100), 100
    assert taken < (admission.slots / count) * SLOT_MEMORY
    assert taken > 0.2 * TopicFilter(names(0)).memory


class Nowhere:
    """A log in which nothing waits."""

    epoch = "k3f9a2xq"

    def has_unclaimed(self, _selector: TopicFilter) -> bool:
        return False


def test_all_that_was_counted_is_given_back(log: Log, trimmer: Trimmer, groups: Groups, admin: GroupAdmin) -> None:
    whole(admin.configure("a", "h", {}, None, 0.0))
    start = log.memory.cost
    for n in range(10):
        (run,) = log.accept([draft("a", b"x" * n, ttl=5.0 if n > 7 else None)], 0.0)
        groups.claim("a", "g", count=1, nbytes=1, seconds=100.0, now=0.0)
        assert run.seq == n + 1
    for seq in range(1, 6):
        assert settle(groups, Action.ACK, seq) is Outcome.DONE
    trimmer.sweep(10.0)
    holds = log.topics["a"].unacked
    assert holds is not None
    assert (holds.count, holds.bytes) == (8, sum(range(8)))
    whole(admin.drop("a", "h"))
    holds = log.topics["a"].unacked
    assert holds is not None
    assert (holds.count, holds.bytes) == (3, 5 + 6 + 7)
    for seq in range(6, 9):
        settle(groups, Action.ACK, seq)
    assert (holds.count, holds.bytes) == (0, 0)
    assert log.memory.cost == start - GROUP_COST + sum(MESSAGE_COST + n for n in range(8))
    whole(admin.drop_all("a"))
    assert trimmer.remove_up_to(log.existing("a"), log.head)
    assert (log.memory.cost, log.memory.total, log.memory.left()) == (0, 0, 1 << 60)


@pytest.mark.usefixtures("admin")
def test_messages_that_were_acked_leave_nothing_in_their_group(log: Log, groups: Groups) -> None:
    lease(groups, log, 0)  # the oldest stays leased
    log.topics["a"].retention = Retention(max_messages=2)

    def work(n: int) -> None:
        settle(groups, Action.ACK, lease(groups, log, n).message.seq)
        groups.take_events()

    assert grown(work) < 8


@pytest.mark.usefixtures("admin")
def test_as_many_leases_as_there_are_cost_nothing_while_none_is_over(log: Log, groups: Groups) -> None:
    for n in range(100_000):
        lease(groups, log, n)
    group = log.topics["a"].unacked.groups["g"]  # type: ignore[union-attr]
    assert (len(group.jobs.by_seq), group.jobs.leased, groups.deadline) == (100_000, 100_000, 1_000.0)
    groups.take_events()
    groups.pass_time(999.9)
    assert groups.take_events() is NO_EVENTS
    groups.pass_time(1_001.0)
    assert [str(lease) for _, _, lease in groups.take_events().ended] == ["k3f9a2xq-1-1", "k3f9a2xq-2-1"]


def test_messages_that_were_handed_out_leave_nothing_behind_one_that_stays(log: Log) -> None:
    log.accept([draft("a", b"stays")], 0.0)

    def work(n: int) -> None:
        (run,) = log.accept([draft("a", b"goes")], float(n) / COUNT)
        (message,) = run.messages
        assert log.remove(message)

    taken = grown(work)
    assert taken < 4
