"""The structures that keep messages, against a plain list."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from app.core.epochs import Epochs
from app.core.history import History, MemoryHistory, Ring
from app.disk.file import StoreFile
from app.disk.history import DiskHistory
from app.message import Delivery, Message


def message(seq: int) -> Message:
    return Message("e", seq, seq, "a", b"", "", None, float(seq), Delivery.ALL)


@pytest.fixture(params=["memory", "disk"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    if request.param == "memory":
        yield MemoryHistory()
        return
    file = StoreFile(tmp_path / "log.db", "full")
    file.db.execute("BEGIN")
    yield DiskHistory(file.db, Epochs("e"))
    file.close()


def test_a_ring_and_an_order_do_what_a_list_does_whatever_is_given_up_in_whatever_order(history: History) -> None:
    dice = random.Random(5)
    ring, order, plain = history.ring("a"), history.order, list[Message]()
    for turn in range(1, 1_500):
        for _ in range(dice.choice([0, 1, 1, 2])):
            if plain:
                gone = plain.pop(0 if dice.random() < 0.7 else dice.randrange(len(plain)))
                assert ring.remove(gone)
                assert not ring.remove(gone)
                order.remove([gone])
        if dice.random() < 0.1:
            count = dice.randrange(6)
            oldest, plain = plain[:count], plain[count:]
            assert ring.shift(count) == oldest
            order.remove(oldest)
        seq = turn * 6
        added = [message(seq + place) for place in range(0, dice.choice([2, 2, 6]), 2)]
        plain += added
        ring.extend(added)
        order.extend(added)
        place = dice.randrange(seq + 6)
        after = [kept for kept in plain if kept.seq > place]
        assert list(ring.after(place)) == list(order.after(place)) == after
        assert (list(ring), ring.live, ring.oldest) == (plain, len(plain), plain[0])
        assert list(ring.newest()) == list(order.newest()) == plain[::-1]
        assert order.get(seq) == added[0]
        assert order.get(place) == next((kept for kept in plain if kept.seq == place), None)
        assert order.before(float(place), seq + 6) == (next((k.seq for k in plain if k.seq >= place), seq + 6 + 1) - 1)


def test_messages_that_came_together_are_found_and_given_up_one_by_one(history: History) -> None:
    dice = random.Random(7)
    ring, plain, seq = history.ring("a"), list[Message](), 0
    for turn in range(150):
        time = float(turn // 5)
        kind = ["text/plain", "application/json"][turn // 10 % 2]
        added = list[Message]()
        for _ in range(dice.choice([1, 2, 20, 300])):
            seq += dice.choice([1] * 30 + [2])  # what lies between is another topic's, or was not kept
            body = b"x" * dice.choice([0, 1, 100, 3_000])
            own: Any = dice.choice([{}] * 30 + [{"expires": 5.0}, {"line": b"x"}, {"delivery": Delivery.ONE}])
            added.append(replace(message(seq), time=time, data=body, content_type=kind, **own))
        ring.extend(added)
        plain += added
        for _ in range(min(dice.choice([0, 10, 100]), len(plain))):
            gone = plain.pop(dice.choice([0, dice.randrange(len(plain)), max(len(plain) - 10, 0)]))
            assert ring.remove(gone)
            assert not ring.remove(gone)
        count = dice.choice([0, 10, 100])
        oldest, plain = plain[:count], plain[count:]
        assert ring.shift(count) == oldest
        if isinstance(history, DiskHistory) and dice.random() < 0.6:
            dice.choice([history.flush, history.write])()
            if dice.random() < 0.5:  # as after a start
                history = DiskHistory(history._db, Epochs("e"), history.left)
                ring = history.ring("a")
        check_ring(ring, plain, dice.randrange(seq))
        if isinstance(history, DiskHistory):
            assert history.order.before(time - 0.5, seq) == next((k.seq - 1 for k in plain if k.time >= time), seq)


def check_ring(ring: Ring, plain: list[Message], place: int) -> None:
    for_all = [kept for kept in plain if kept.delivery is Delivery.ALL]
    assert list(ring.after(place)) == [kept for kept in plain if kept.seq > place]
    assert list(ring.newest()) == plain[::-1]
    assert ring.get(place) == next((kept for kept in plain if kept.seq == place), None)
    assert ring.count(place) == sum(kept.seq > place for kept in for_all)
    assert list(ring.sizes()) == [(kept.seq, len(kept.data)) for kept in for_all]
