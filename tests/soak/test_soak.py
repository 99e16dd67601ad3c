"""The soak's own judges: a leak and a broken ledger are found, noise and a good run are not; and a short run is good.

The whole of it is `python -m tests.soak`.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

from app.messages.topic import TopicFilter
from tests.soak.__main__ import main
from tests.soak.book import LOSABLE, ONE, Book, Reader
from tests.soak.samples import BOUNDS, COLUMNS, Row, read, rising, write

HOUR, WARM_UP = 3_600, 600


def rows(**per_hour: float) -> list[Row]:
    """An hour of samples with noise, in which these rise by so much; before the warm-up everything does."""
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
    assert rising(rows(), WARM_UP) == []


def test_the_warm_up_does_not_count() -> None:
    assert len(rising(rows(), 0)) == len(BOUNDS)


@pytest.mark.parametrize(("name", "much"), {"rss_mib": 3.0, "fds": 3.0, "tasks": 2.0, "subscribers": 3.0}.items())
def test_what_grows_is_found(name: str, much: float) -> None:
    (found,) = rising(rows(**{name: much}), WARM_UP)
    assert found.startswith(f"{name} rises by ")


def test_samples_come_back_as_they_were_written(tmp_path: Path) -> None:
    sampled = [{name: 1.5 + place for place, name in enumerate(COLUMNS)}]
    write(sampled, tmp_path / "x.csv")
    assert read(tmp_path / "x.csv") == sampled


class Run:
    """A small run that went well, to be spoilt."""

    def __init__(self) -> None:
        self.book = Book()
        self.book.work = "a.work"
        self.reader = Reader("r", TopicFilter(["a.*"]))
        self.taker = Reader("t", TopicFilter(["one"]))
        self.book.readers, self.book.takers = [self.reader], [self.taker]
        self.texts: list[str] = []
        acked = self.book.acked.setdefault("g", Counter())
        for topic, kind in (("a.b", "sure"), ("a.work", "sure"), ("a.b", LOSABLE), ("one", ONE), ("b", "sure")):
            number, text = self.book.new(topic, kind)
            self.texts.append(text)
            self.book.confirm(number)
        self.reader.take(self.texts[0], "k-1")
        self.reader.take(self.texts[1], "k-2")
        self.taker.take(self.texts[3])
        acked[1] += 1


def test_a_good_run_has_no_fault() -> None:
    assert Run().book.check() == {}


def test_every_fault_is_found() -> None:
    spoilt: dict[str, Run] = {name: Run() for name in ("lost", "duplicate", "phantom", "forged", "out of order")}
    spoilt["lost"].book.confirm(spoilt["lost"].book.new("a.c")[0])
    spoilt["duplicate"].reader.take(spoilt["duplicate"].texts[0], "k-3")
    spoilt["phantom"].reader.take(spoilt["phantom"].texts[4], "k-3")
    spoilt["forged"].reader.take("0 0124", "k-3")
    spoilt["out of order"].reader.take(spoilt["out of order"].texts[2], "k-2")
    assert {name: run.book.check() for name, run in spoilt.items()} == {name: {name: 1} for name in spoilt}


def test_what_is_for_one_is_for_exactly_one() -> None:
    run = Run()
    second = Reader("t2", TopicFilter(["one"]))
    run.book.takers.append(second)
    second.take(run.texts[3])
    assert run.book.check() == {"duplicate": 1}
    run.book.confirm(run.book.new("one", ONE)[0])
    assert run.book.check() == {"duplicate": 1, "lost": 1}


def test_work_is_acked_by_every_group() -> None:
    run = Run()
    run.book.acked["h"] = Counter()
    assert run.book.check() == {"never acked": 1}


def test_who_is_always_there_misses_nothing() -> None:
    run = Run()
    run.reader.away = False
    assert run.book.check() == {"lost": 1}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_minute_of_it(engine: str, tmp_path: Path) -> None:
    """`pytest -m slow tests/soak`: too short to say what is flat, long enough for the ledger."""
    pytest.importorskip("matplotlib")
    options = ["--engine", engine, "--minutes", "1", "--warm-up", "0", "--flat-or-not", "--churn", "30"]
    assert main([*options, "--out", str(tmp_path)]) == 0
