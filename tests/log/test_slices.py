"""However much is stored, and whatever is asked: each slice looks at a bounded number of things, and so does each call
that has no slices. What is counted are runs that are looked at and topics that are compared, not seconds."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import pytest

from app.errors import NotFound
from app.log.directory import STATE_EFFORT, TOPIC_SORTS, ListQuery
from app.log.epochs import Epochs
from app.log.groups.admin import RELEASE_BATCH
from app.log.groups.groups import GROUP_BATCH
from app.log.groups.jobs import JOB_BATCH
from app.log.groups.unacked import SCAN_BATCH as SCAN_HELD
from app.log.reading import SCAN_BATCH
from app.log.run import Run
from app.log.slices import SLICE, Slices
from app.log.state import LogStateMachine
from app.log.store import MemoryLogMessages, MemoryMessageStore, MemoryTopicMessages
from app.log.topic_log import Limits, Retention
from app.log.trimmer import TRIM_BATCH
from app.messages.lease import Action, lease_id
from app.messages.message import Id, Message
from app.messages.position import EARLIEST, After, AfterIndex, Ago, Cursor, Last, Start
from app.messages.topic import TopicFilter
from tests.harness import T, draft, whole

NOW: Final = 1_800_000_000.0
BIG: Final = 6_000  # messages of one topic
TOPICS: Final = 4_000  # others, each with one
LIMITS: Final = Limits(Retention(max_messages=1_000_000), total_bytes=1 << 40, topics=100_000)
WIDE: Final = [f"t.*.*.{number}" for number in range(64)]
SELECTORS: Final = {
    "nothing": ["nope.**"], "everything": ["**"], "small topics": ["t.*"], "the big topic": ["big"],
    "64 patterns that match nothing": WIDE, "the big topic and patterns": ["big", *WIDE[1:]],
}  # fmt: skip


class Looked:
    """How many things were looked at since somebody asked."""

    def __init__(self) -> None:
        self._things = 0

    def walk(self, runs: Iterator[Run]) -> Iterator[Run]:
        for run in runs:
            self._things += 1
            yield run

    def at_one(self, effort: int) -> None:
        self._things += effort

    def things(self) -> int:
        things, self._things = self._things, 0
        return things


class CountedLogMessages(MemoryLogMessages):
    def __init__(self, looked: Looked) -> None:
        super().__init__()
        self._looked = looked

    def after(self, seq: int) -> Iterator[Run]:
        return self._looked.walk(super().after(seq))

    def newest(self) -> Iterator[Run]:
        return self._looked.walk(super().newest())


class CountedTopicMessages(MemoryTopicMessages, kw_only=True, gc=False, eq=False):
    looked: Looked

    def after(self, seq: int) -> Iterator[Run]:
        return self.looked.walk(super().after(seq))

    def newest(self) -> Iterator[Run]:
        return self.looked.walk(super().newest())

    def shift(self, count: int) -> list[Run]:
        gone = super().shift(count)
        self.looked.at_one(sum(run.live for run in gone))
        return gone

    def count_after(self, seq: int) -> int:
        return sum(run.count_after(seq) for run in self.after(seq) if run.for_all)

    def sizes_after(self, seq: int) -> Iterator[tuple[int, int]]:
        for size in super().sizes_after(seq):
            self.looked.at_one(1)
            yield size


class CountedStore(MemoryMessageStore):
    def __init__(self, looked: Looked) -> None:
        self.messages: CountedLogMessages = CountedLogMessages(looked)
        self._looked = looked

    def of_topic(self, _topic: str) -> CountedTopicMessages:
        return CountedTopicMessages(self.messages, looked=self._looked)


class CountedFilter(TopicFilter):
    looked: Looked

    def matches(self, topic: str) -> bool:
        self.looked.at_one(self.effort)
        return super().matches(topic)


class Filled:
    """A core with a great deal in it, each message in a run of its own."""

    def __init__(self) -> None:
        self.looked = Looked()
        self.core = LogStateMachine(LIMITS, Epochs("e"), CountedStore(self.looked))
        for number in range(BIG):
            self.append("big", number)
            if number < TOPICS:
                self.append(f"t.{number}", number)
            if number % 10 == 0:
                self.append("one", number, delivery="one")
        self.core.take_outbox()
        self.looked.things()

    def append(self, topic: str, number: int, **options: Any) -> None:
        self.core.append([draft(topic, b"%d" % number, **options)], NOW + number)

    def topic_filter(self, names: list[str]) -> CountedFilter:
        topic_filter = CountedFilter(names)
        topic_filter.looked = self.looked
        return topic_filter

    def bounded(self, slices: Slices[T], most: int = 2 * SLICE) -> tuple[T, int]:
        """The answer, and how many things all slices looked at; none has looked at more than so many."""
        total = 0
        for _ in count():
            done = False
            try:
                next(slices)
            except StopIteration as end:
                value: T = end.value
                done = True
            things = self.looked.things()
            assert things <= most
            total += things
            if done:
                return value, total
        raise AssertionError

    def rest(self, topic_filter: TopicFilter, cursor: Cursor) -> list[Message]:
        """What a subscriber gets from there."""
        found: list[Message] = []
        while cursor.seq < self.core.log.head:
            page = whole(
                self.core.reading.read(topic_filter, cursor, NOW + BIG, limit=1_000, nbytes=1 << 20, take=False)
            )
            found += page.messages
            cursor = page.cursor
        return found


@pytest.fixture(scope="module")
def filled() -> Filled:
    return Filled()


STARTS: Final[dict[str, Start]] = {
    "last:1": Last(1), "last:10": Last(10), "last:5000": Last(5_000), "last:all": Last(10**9),
    "earliest": EARLIEST, "an hour": Ago(3_600.0), "another epoch": After(Id("other", 5)), "a place": After(Id("e", 9)),
}  # fmt: skip


@pytest.mark.parametrize("names", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_no_slice_of_finding_a_start_looks_at_much(filled: Filled, names: list[str], start: Start) -> None:
    filled.bounded(filled.core.reading.locate(filled.topic_filter(names), start, NOW + BIG))


@pytest.mark.parametrize("names", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("many", [1, 2, 10, 3_999, 5_000, 10**9])
def test_the_last_of_a_selection_are_found_where_a_scan_finds_them(filled: Filled, names: list[str], many: int) -> None:
    topic_filter = filled.topic_filter(names)
    cursor, _ = filled.bounded(filled.core.reading.locate(topic_filter, Last(many), NOW + BIG))
    selected = filled.rest(topic_filter, Cursor(0, 0))
    assert [message.id for message in filled.rest(topic_filter, cursor)] == [message.id for message in selected[-many:]]
    filled.looked.things()


def test_the_last_of_a_pattern_that_matches_nothing_cost_no_message_a_look(filled: Filled) -> None:
    _, things = filled.bounded(filled.core.reading.locate(filled.topic_filter(["nope.**"]), Last(10), NOW + BIG))
    assert things <= 3 * (TOPICS + 2)


def test_the_last_of_small_topics_are_found_without_a_look_at_the_big_one(filled: Filled) -> None:
    _, things = filled.bounded(filled.core.reading.locate(filled.topic_filter(["t.*"]), Last(10), NOW + BIG))
    assert things <= 4 * (TOPICS + 2)


@pytest.mark.parametrize("index", [-1, 0, 1, 2_999, 3_000, BIG - 2, BIG - 1, BIG, 10**9])
def test_the_place_behind_an_index_is_found_by_bisection(filled: Filled, index: int) -> None:
    cursor, things = filled.bounded(
        filled.core.reading.locate(filled.topic_filter(["big"]), AfterIndex(index), NOW + BIG)
    )
    assert things <= 50
    assert [message.index for message in filled.rest(TopicFilter(["big"]), cursor)] == [*range(max(index + 1, 0), BIG)]
    filled.looked.things()


@pytest.mark.parametrize("names", SELECTORS.values(), ids=SELECTORS)
def test_no_page_looks_at_much(filled: Filled, names: list[str]) -> None:
    topic_filter, cursor = filled.topic_filter(names), Cursor(0, 0)
    while cursor.seq < filled.core.log.head:
        reading = filled.core.reading.read(topic_filter, cursor, NOW + BIG, limit=1_000, nbytes=1 << 20, take=False)
        page, _ = filled.bounded(reading, 2 * SCAN_BATCH + SLICE)
        cursor = page.cursor


def test_a_list_of_topics_and_the_totals_come_in_slices(filled: Filled) -> None:
    states, _ = filled.bounded(filled.core.directory.topics(ListQuery(filled.topic_filter(["t.*"])), NOW + BIG))
    assert len(states.items) == TOPICS
    totals, _ = filled.bounded(filled.core.totals())
    assert totals.messages == BIG + TOPICS + BIG // 10


@pytest.mark.parametrize("names", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("sort", TOPIC_SORTS)
def test_a_page_of_topics_is_found_in_slices_however_it_is_sorted(filled: Filled, names: list[str], sort: str) -> None:
    query = ListQuery(filled.topic_filter(names), sort=sort, limit=100)
    first, _ = filled.bounded(filled.core.directory.topics(query, NOW + BIG))
    if first.next is not None:
        query = ListQuery(filled.topic_filter(names), sort=sort, limit=100, after=first.next)
        second, _ = filled.bounded(filled.core.directory.topics(query, NOW + BIG))
        assert {state.topic for state in first.items}.isdisjoint(state.topic for state in second.items)


def test_lists_of_groups_and_of_what_is_scheduled_come_in_slices() -> None:
    core = LogStateMachine(LIMITS, Epochs("k3f9a2xq"), MemoryMessageStore())
    for number in range(2_000):
        whole(core.group_admin.join(f"t.{number}", "g", NOW, make=True))
        core.append([draft(f"t.{number}", b"x", delay=3_000.0 - number)], NOW)
    groups, steps = _stepped(core.directory.groups(ListQuery(limit=100), NOW))
    assert ([state.topic for state in groups.items[:2]], groups.next) == (["t.0", "t.1"], "t.1087/g")
    assert steps >= 2_000 / SLICE + 100 / (SLICE / STATE_EFFORT)
    page, steps = _stepped(core.schedule.page(None, None, 100))
    assert [one.first.envelope.topic for one in page.publishes[:2]] == ["t.1999", "t.1998"]
    assert steps >= 2_000 / SLICE


def _stepped(slices: Slices[T]) -> tuple[T, int]:
    """The answer, and in how many slices it came."""
    for steps in count(1):
        try:
            next(slices)
        except StopIteration as end:
            value: T = end.value
            return value, steps
    raise AssertionError


def test_a_topic_is_given_up_in_slices_and_what_comes_meanwhile_stays() -> None:
    filled = Filled()
    dropping = filled.core.drop("big", NOW)
    next(dropping)
    assert filled.looked.things() <= 2 * SLICE
    filled.append("big", BIG)
    filled.bounded(dropping)
    assert [message.data for message in filled.rest(TopicFilter(["big"]), Cursor(0, 0))] == [b"%d" % BIG]
    filled.looked.things()
    filled.bounded(filled.core.drop("big", NOW))
    assert "big" not in filled.core.log.topics


# Groups


def made(filled: Filled, name: str, start: Start = EARLIEST) -> None:
    filled.bounded(filled.core.group_admin.configure("big", name, {}, (str(start), start), NOW + BIG))


def lag(filled: Filled, name: str) -> int:
    state = filled.core.figures.state("big", name, NOW + BIG)
    assert filled.looked.things() <= SLICE
    return state.lag


def settle(filled: Filled, name: str, most: int) -> None:
    """Lease so many, and ack every other one."""
    groups = filled.core.groups
    for _ in range(most // 100):
        leases = groups.claim("big", name, count=100, nbytes=1 << 20, seconds=60.0, now=NOW + BIG)
        acked = [lease_id(lease) for lease in leases[::2]]
        groups.settle("big", name, Action.ACK, acked, seconds=None, now=NOW + BIG)
    filled.looked.things()


def held(filled: Filled) -> tuple[int, int]:
    """Messages that a group has not done, and bytes of their bodies: as they are counted."""
    holds = filled.core.log.topics["big"].unacked
    return (holds.count, holds.bytes) if holds else (0, 0)


def looked_for(filled: Filled) -> tuple[int, int]:
    """The same, found out anew."""
    topic = filled.core.log.topics["big"]
    sizes = [
        len(message.data) for run in topic.messages.after(0) for message in run.messages
        if topic.unacked is not None and run.for_all and topic.unacked.is_needed(message.seq)
    ]  # fmt: skip
    filled.looked.things()
    return len(sizes), sum(sizes)


def test_a_group_is_made_and_dropped_in_slices_and_what_is_held_is_counted_right() -> None:
    filled = Filled()
    middle = After(Id("e", filled.core.log.head // 2))
    for name, start in (("first", EARLIEST), ("middle", middle), ("late", Last(10)), ("last", EARLIEST)):
        made(filled, name, start)
        settle(filled, name, 1_000)
        assert held(filled) == looked_for(filled)
    assert lag(filled, "first") == BIG - 500
    for name in ("first", "late", "last", "middle"):
        filled.bounded(filled.core.group_admin.drop("big", name))
        assert held(filled) == looked_for(filled)
    assert filled.core.log.topics["big"].unacked is None


def test_what_happens_while_a_group_is_being_made_or_dropped_is_counted_too() -> None:
    filled = Filled()
    made(filled, "there")
    making = filled.core.group_admin.configure("big", "new", {}, ("earliest", EARLIEST), NOW + BIG)
    for _ in range(4):
        next(making)
        settle(filled, "there", 200)
        filled.append("big", BIG)
    filled.core.topics.configure("big", {"max_messages": BIG - 100}, NOW + BIG)  # takes some of what was acked
    filled.bounded(making)
    assert held(filled) == looked_for(filled)
    assert lag(filled, "new") == filled.core.log.topics["big"].for_all
    settle(filled, "new", 2_000)
    dropping = filled.core.group_admin.drop("big", "there")
    for _ in range(2):
        next(dropping)
        settle(filled, "new", 200)
        filled.append("big", BIG)
        with pytest.raises(NotFound):
            filled.core.figures.state("big", "there", NOW + BIG)
    filled.bounded(dropping)
    assert held(filled) == looked_for(filled)


@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize("drop", ["group", "topic"])
def test_deleting_a_group_looks_at_each_of_its_messages_once_and_in_few_slices(drop: str, others: int) -> None:
    filled = Filled()
    groups = filled.core.groups
    for name in ("g", *[f"other-{number}" for number in range(others)]):
        made(filled, name)
        for _ in range(0, BIG, 1_000):
            leases = groups.claim("big", name, count=1_000, nbytes=1 << 30, seconds=60.0, now=NOW + BIG)
            assert len(leases) == 1_000
        filled.looked.things()
    dropped = filled.core.group_admin.drop("big", "g") if drop == "group" else filled.core.drop("big", NOW + BIG)
    slices = 1 + sum(1 for _ in dropped)
    of_the_groups = (1 if drop == "group" else 1 + others) * BIG
    of_the_topic = 0 if drop == "group" else BIG
    assert slices <= 2 + others + of_the_groups // RELEASE_BATCH + of_the_topic // TRIM_BATCH
    assert filled.looked.things() <= of_the_groups // 2 + of_the_topic


def test_an_ack_behind_very_many_leases_does_not_look_at_all_of_them() -> None:
    filled = Filled()
    groups = filled.core.groups
    made(filled, "g")
    filled.looked.things()
    leases = groups.claim("big", "g", count=BIG, nbytes=1 << 30, seconds=60.0, now=NOW + BIG)
    filled.core.topics.configure("big", {"max_messages": 100}, NOW + BIG)
    filled.looked.things()
    for lease in leases[-10:]:
        groups.settle("big", "g", Action.ACK, [lease_id(lease)], seconds=None, now=NOW + BIG)
        assert filled.looked.things() <= 2 * SCAN_HELD + 10
    while filled.core.deadline <= NOW + BIG:
        filled.core.pass_time(NOW + BIG)
        assert filled.looked.things() <= 2 * SCAN_HELD + 10
    assert held(filled) == looked_for(filled)
    assert filled.core.log.topics["big"].for_all == BIG - 10


def test_a_group_of_the_same_name_waits_until_the_one_before_is_gone() -> None:
    filled = Filled()
    made(filled, "g")
    settle(filled, "g", 4_000)
    next(filled.core.group_admin.drop("big", "g"))
    made(filled, "g")
    assert lag(filled, "g") == BIG


def test_an_unfinished_deletion_of_a_group_is_finished_as_time_passes() -> None:
    filled = Filled()
    made(filled, "g")
    settle(filled, "g", 4_000)
    next(filled.core.group_admin.drop("big", "g"))
    turns = 0
    while filled.core.deadline <= NOW + BIG:
        filled.core.pass_time(NOW + BIG)
        turns += 1
        assert turns < 100
    assert filled.core.log.topics["big"].unacked is None


def test_many_leases_that_end_together_end_in_parts() -> None:
    filled = Filled()
    made(filled, "g")
    filled.core.groups.claim("big", "g", count=5_000, nbytes=1 << 30, seconds=10.0, now=NOW)
    filled.core.take_outbox()
    told: list[int] = []
    while not told or told[-1]:
        filled.core.pass_time(NOW + 10.0)
        told.append(len(filled.core.take_outbox().group_events.ended))
    assert max(told) <= JOB_BATCH * GROUP_BATCH
    assert sum(told) == 5_000


def test_more_messages_cannot_come_than_retention_takes() -> None:
    """However many come at once, a topic that is full does not grow."""
    core = LogStateMachine(Limits(Retention(max_messages=1_000)), Epochs("e"), MemoryMessageStore())
    for _ in range(10):
        core.append([draft("a", *[b"x"] * 10_000)], NOW)
        core.take_outbox()
        core.trim()
        assert core.log.topics["a"].messages.live == 1_000
