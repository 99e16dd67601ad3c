"""Meters: the rate follows what happens, and is zero when nothing does."""

import pytest

from app.log.meter import WINDOW, Meter


class Counter:
    """A total, and its meter."""

    def __init__(self, total: int = 0) -> None:
        self.total, self.meter = total, Meter()

    def add(self, count: int, now: float) -> None:
        if now >= self.meter.end:
            self.meter.turn(now, self.total)
        self.total += count

    def rate(self, now: float) -> float:
        return self.meter.rate(now, self.total)


def test_a_steady_rate_is_shown_as_it_is_from_the_second_window_on() -> None:
    counter = Counter()
    for tenth in range(1, 500):
        counter.add(5, tenth / 10)
        if tenth / 10 > 2 * WINDOW:
            assert counter.rate(tenth / 10) == pytest.approx(50, rel=0.02)


def test_a_rate_falls_to_zero_within_two_windows() -> None:
    counter = Counter()
    counter.add(1_000, 1_000.0)
    rates = [counter.rate(1_000.0 + second) for second in range(int(2 * WINDOW) + 1)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (100.0, 0.0)


def test_what_was_counted_before_the_meter_began_is_in_no_rate() -> None:
    counter = Counter(1_000_000)
    assert counter.rate(1_000.0) == 0.0
    counter.add(10, 1_001.0)
    assert counter.rate(1_002.0) == 1.0
