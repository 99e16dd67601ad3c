"""The structures that keep messages, against a plain list."""

import random
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.log.epochs import Epochs
from app.log.log import Log
from app.log.run import Run, make_runs
from app.log.store import LogMessages, MemoryMessageStore, MessageStore, TopicMessages
from app.log.topic_log import Limits
from app.log.trimmer import Trimmer
from app.messages.message import Delivery, Message
from app.storage.sqlite.file import StoreFile
from app.storage.sqlite.messages import DiskMessageStore
from tests.harness import draft


def accepted(seq: int, time: float, *bodies: bytes, **options: Any) -> list[Run]:
    """Messages that took the places from `seq` on."""
    return [*make_runs(draft("a", *bodies, **options), "e", seq, seq, time + 0.25, time=time // 3)]


def messages(runs: Iterable[Run]) -> list[Message]:
    return [message for run in runs for message in run.messages]


def behind(walk: TopicMessages | LogMessages, place: int) -> list[Message]:
    return [message for run in walk.after(place) for message in run.after(place)]


def newest(walk: TopicMessages | LogMessages) -> list[Message]:
    return [message for run in walk.newest() for message in run.newest()]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    file = StoreFile(tmp_path / "log.db", "full")
    file.db.execute("BEGIN")
    yield file.db
    file.close()


@pytest.fixture(params=["memory", "disk"])
def stored(request: pytest.FixtureRequest, database: sqlite3.Connection) -> MessageStore:
    return MemoryMessageStore() if request.param == "memory" else DiskMessageStore(database, Epochs("e"))


def test_the_messages_of_a_topic_and_of_the_log_do_what_a_list_does_whatever_is_given_up_in_whatever_order(
    stored: MessageStore,
) -> None:
    dice = random.Random(5)
    of_topic, of_log, plain = stored.of_topic("a"), stored.messages, list[Message]()
    for turn in range(1, 1_500):
        for _ in range(dice.choice([0, 1, 1, 2])):
            if plain:
                gone = plain.pop(0 if dice.random() < 0.7 else dice.randrange(len(plain)))
                taken = of_topic.remove(gone.seq)
                assert taken is not None
                assert messages([taken]) == [gone]
                assert of_topic.remove(gone.seq) is None
        if dice.random() < 0.1:
            count = dice.randrange(6)
            oldest, plain = plain[:count], plain[count:]
            assert messages(of_topic.shift(count)) == oldest
        seq = turn * 6
        added = [
            run for place in range(0, dice.choice([2, 2, 6]), 2) for run in accepted(seq + place, float(turn), b"")
        ]
        first = messages(added)[0]
        plain += messages(added)
        of_topic.extend(added)
        place = dice.randrange(seq + 6)
        after = [kept for kept in plain if kept.seq > place]
        assert behind(of_topic, place) == behind(of_log, place) == after
        assert (behind(of_topic, 0), of_topic.live, of_topic.ends) == (plain, len(plain), (plain[0].id, plain[-1].id))
        assert newest(of_topic) == newest(of_log) == plain[::-1]
        assert of_log.get(seq) == first
        assert of_log.get(place) == next((kept for kept in plain if kept.seq == place), None)
        time = dice.randrange(turn + 2) - 0.5
        assert of_log.position_before(time, seq + 6, own=True) == next(
            (k.seq - 1 for k in plain if k.at >= time), seq + 6
        )
        time //= 3
        assert of_log.position_before(time, seq + 6, own=False) == next(
            (k.seq - 1 for k in plain if k.time >= time), seq + 6
        )


def test_messages_that_came_together_are_found_and_given_up_one_by_one(
    stored: MessageStore, database: sqlite3.Connection
) -> None:
    dice = random.Random(7)
    of_topic, plain, seq = stored.of_topic("a"), list[Message](), 1
    for turn in range(150):
        time = float(turn // 5)
        kind = ["text/plain", "application/json"][turn // 10 % 2]
        added = list[Run]()
        for _ in range(dice.choice([1, 2, 10])):
            seq += dice.choice([0, 0, 0, 1])  # what lies between is another topic's, or was not kept
            bodies = [b"x" * dice.choice([0, 1, 100, 3_000]) for _ in range(dice.choice([1, 1, 2, 30, 300]))]
            own: Any = dice.choice([{}] * 10 + [{"ttl": 5.0}, {"line": b"x"}, {"delivery": Delivery.ONE}])
            added += accepted(seq, time, *bodies, content_type=kind, **own)
            seq += len(bodies)
        plain += messages(added)
        of_topic.extend(added)
        for _ in range(min(dice.choice([0, 10, 100]), len(plain))):
            gone = plain.pop(dice.choice([0, dice.randrange(len(plain)), max(len(plain) - 10, 0)]))
            taken = of_topic.remove(gone.seq)
            assert taken is not None
            assert messages([taken]) == [gone]
            assert of_topic.remove(gone.seq) is None
        count = dice.choice([0, 10, 100, 1_000])
        oldest, plain = plain[:count], plain[count:]
        assert messages(of_topic.shift(count)) == oldest
        if isinstance(stored, DiskMessageStore) and dice.random() < 0.6:
            dice.choice([stored.flush, stored.write])()
            if dice.random() < 0.5:  # as after a start
                stored = DiskMessageStore(database, Epochs("e"), stored.remaining)
                of_topic = stored.of_topic("a")
        check_topic_messages(of_topic, plain, dice.randrange(seq))
        assert behind(stored.messages, 0) == newest(stored.messages)[::-1] == plain
        assert stored.messages.position_before(time - 0.5, seq, own=True) == next(
            (k.seq - 1 for k in plain if k.at >= time), seq
        )
        time //= 3
        assert stored.messages.position_before(time, seq, own=False) == next(
            (k.seq - 1 for k in plain if k.time >= time), seq
        )


def check_topic_messages(of_topic: TopicMessages, plain: list[Message], place: int) -> None:
    for_all = [kept for kept in plain if kept.delivery is Delivery.ALL]
    assert behind(of_topic, place) == [kept for kept in plain if kept.seq > place]
    assert newest(of_topic) == plain[::-1]
    assert of_topic.get(place) == next((kept for kept in plain if kept.seq == place), None)
    assert of_topic.count_after(place) == sum(kept.seq > place for kept in for_all)
    sizes = [(kept.seq, len(kept.data)) for kept in for_all]
    assert (list(of_topic.sizes_after(0)), list(of_topic.sizes_after(place))) == (
        sizes,
        [size for size in sizes if size[0] > place],
    )


def test_messages_may_be_removed_during_an_iteration_over_them(stored: MessageStore) -> None:
    of_topic = stored.of_topic("a")
    of_topic.extend(accepted(1, 0.0, *[b"x"] * 500))
    for run in of_topic.after(0):
        for message in run.messages:
            if message.seq % 3:
                assert of_topic.remove(message.seq)
    assert [message.seq for message in behind(of_topic, 0)] == [*range(3, 501, 3)]
    gone = [message.seq for run in of_topic.newest() for message in run.newest() if of_topic.remove(message.seq)]
    assert gone == [*range(498, 0, -3)]
    assert (of_topic.live, behind(of_topic, 0), behind(stored.messages, 0)) == (0, [], [])


def test_what_was_handed_out_stays_as_it_is_when_the_log_gives_it_up() -> None:
    log = Log(Limits(), Epochs("e"), MemoryMessageStore())
    handed = log.accept([draft("a", b"1", b"2", b"3")], 0.0)
    before = messages(handed)
    log.remove(before[1])
    assert Trimmer(log).remove_up_to(log.existing("a"), log.head)
    assert [message.data for message in messages(handed)] == [b"1", b"2", b"3"]
