"""The checks of the soak: they find a leak and every fault of a ledger, and accept noise and a good run.

The soak itself is `python -m tests.soak`; the slow tests run a minute of it.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

from app.messages.topic import TopicFilter
from tests.soak.__main__ import main
from tests.soak.ledger import BEST_EFFORT, GUARANTEED, ONE, SoakLedger, SubscriberRecord
from tests.soak.samples import BOUNDS, COLUMNS, Row, find_growth, read, write

HOUR, WARM_UP = 3_600, 600


def rows(**per_hour: float) -> list[Row]:
    """An hour of samples with noise, in which these columns rise. During the warm-up all of them do."""
    chance = random.Random(7)
    base = {"rss_mib": 45.0, "fds": 60.0, "tasks": 10.0, "subscribers": 43.0}
    return [
        dict.fromkeys(COLUMNS, 0.0)
        | {"seconds": float(second)}
        | {
            name: value * min(second / WARM_UP, 1) + chance.gauss(0, 0.5) + per_hour.get(name, 0.0) * second / HOUR
            for name, value in base.items()
        }
        for second in range(0, HOUR, 5)
    ]


def test_noise_is_flat() -> None:
    assert find_growth(rows(), WARM_UP) == []


def test_the_warm_up_does_not_count() -> None:
    assert len(find_growth(rows(), 0)) == len(BOUNDS)


@pytest.mark.parametrize(("name", "slope"), {"rss_mib": 3.0, "fds": 3.0, "tasks": 2.0, "subscribers": 3.0}.items())
def test_growth_is_found(name: str, slope: float) -> None:
    (found,) = find_growth(rows(**{name: slope}), WARM_UP)
    assert found.startswith(f"{name} rises by ")


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    sampled = [{name: 1.5 + index for index, name in enumerate(COLUMNS)}]
    write(sampled, tmp_path / "x.csv")
    assert read(tmp_path / "x.csv") == sampled


class Run:
    """A small run without faults, for tests to add them."""

    def __init__(self) -> None:
        self.ledger = SoakLedger()
        self.ledger.work_topic = "a.work"
        self.subscriber = SubscriberRecord("r", TopicFilter(["a.*"]))
        self.one_subscriber = SubscriberRecord("t", TopicFilter(["one"]))
        self.ledger.subscribers, self.ledger.one_subscribers = [self.subscriber], [self.one_subscriber]
        self.texts: list[str] = []
        acked = self.ledger.acked.setdefault("g", Counter())
        for topic, kind in (
            ("a.b", GUARANTEED),
            ("a.work", GUARANTEED),
            ("a.b", BEST_EFFORT),
            ("one", ONE),
            ("b", GUARANTEED),
        ):
            number, text = self.ledger.next_message(topic, kind)
            self.texts.append(text)
            self.ledger.confirm(number)
        self.subscriber.receive(self.texts[0], "k-1")
        self.subscriber.receive(self.texts[1], "k-2")
        self.one_subscriber.receive(self.texts[3])
        acked[1] += 1


def test_a_good_run_has_no_faults() -> None:
    assert Run().ledger.check() == {}


def test_every_fault_is_found() -> None:
    faulty: dict[str, Run] = {name: Run() for name in ("lost", "duplicate", "phantom", "forged", "out of order")}
    faulty["lost"].ledger.confirm(faulty["lost"].ledger.next_message("a.c")[0])
    faulty["duplicate"].subscriber.receive(faulty["duplicate"].texts[0], "k-3")
    faulty["phantom"].subscriber.receive(faulty["phantom"].texts[4], "k-3")
    faulty["forged"].subscriber.receive("0 0124", "k-3")
    faulty["out of order"].subscriber.receive(faulty["out of order"].texts[2], "k-2")
    assert {name: run.ledger.check() for name, run in faulty.items()} == {name: {name: 1} for name in faulty}


def test_a_message_of_delivery_one_goes_to_exactly_one_subscriber() -> None:
    run = Run()
    second = SubscriberRecord("t2", TopicFilter(["one"]))
    run.ledger.one_subscribers.append(second)
    second.receive(run.texts[3])
    assert run.ledger.check() == {"duplicate": 1}
    run.ledger.confirm(run.ledger.next_message("one", ONE)[0])
    assert run.ledger.check() == {"duplicate": 1, "lost": 1}


def test_a_message_must_be_acked_by_every_group() -> None:
    run = Run()
    run.ledger.acked["h"] = Counter()
    assert run.ledger.check() == {"never acked": 1}


def test_a_subscriber_that_never_reconnects_must_miss_nothing() -> None:
    run = Run()
    run.subscriber.reconnects = False
    assert run.ledger.check() == {"lost": 1}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_minute_of_the_soak_has_no_faults(engine: str, tmp_path: Path) -> None:
    """`pytest -m slow tests/soak`. It is too short to find growth, but long enough for the ledger."""
    pytest.importorskip("matplotlib")
    options = ["--engine", engine, "--minutes", "1", "--warm-up", "0", "--flat-or-not", "--churn", "30"]
    assert main([*options, "--out", str(tmp_path)]) == 0
