"""Meters: the rate follows what happens, and is zero when nothing does."""

import pytest

from app.log.meter import WINDOW, Meter


def test_a_steady_rate_is_shown_as_it_is_from_the_second_window_on() -> None:
    meter = Meter()
    for tenth in range(1, 500):
        meter.add(5, tenth / 10)
        if tenth / 10 > 2 * WINDOW:
            assert meter.rate(tenth / 10) == pytest.approx(50, rel=0.02)


def test_a_rate_falls_to_zero_within_two_windows() -> None:
    meter = Meter()
    meter.add(1_000, 1_000.0)
    rates = [meter.rate(1_000.0 + second) for second in range(int(2 * WINDOW) + 1)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (100.0, 0.0)
