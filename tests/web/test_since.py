"""Times as `since` takes them: RFC 3339, all of it and nothing else."""

from datetime import datetime

import pytest

from app.errors import OptionInvalid
from app.messages.position import Since, parse_start

NOON = datetime.fromisoformat("2026-01-31T12:00:00+00:00").timestamp()


def seconds(text: str) -> float:
    start = parse_start(text)
    assert isinstance(start, Since)
    return start.time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31T12:00:00z", NOON),
        ("2026-01-31 12:00:00Z", NOON),
        ("2026-01-31T12:00:00.5Z", NOON + 0.5),
        ("2026-01-31T12:00:00.500000000000Z", NOON + 0.5),
        ("2026-01-31T13:30:00+01:30", NOON),
        ("2026-01-31T13:30:00 01:30", NOON),  # the plus of a URL that was not written as %2B
        ("2026-01-31T04:00:00-08:00", NOON),
        ("2026-01-31T12:00:00-00:00", NOON),  # UTC, and nobody knows where
        ("2026-02-01T11:59:00+23:59", NOON),
        ("2026-01-31T11:59:60Z", NOON),
        ("1970-01-01T00:00:00Z", 0),
        ("1990-12-31T23:59:60Z", datetime.fromisoformat("1991-01-01T00:00:00+00:00").timestamp()),
        ("1990-12-31T15:59:60-08:00", datetime.fromisoformat("1991-01-01T00:00:00+00:00").timestamp()),
        ("2016-12-31T23:59:60.9Z", datetime.fromisoformat("2017-01-01T00:00:00.9+00:00").timestamp()),
        ("2024-02-29T00:00:00Z", datetime.fromisoformat("2024-02-29T00:00:00+00:00").timestamp()),
        ("0001-01-01T00:00:00Z", datetime.fromisoformat("0001-01-01T00:00:00+00:00").timestamp()),
        ("0000-12-31T23:59:59Z", datetime.fromisoformat("0001-01-01T00:00:00+00:00").timestamp() - 1),
        ("0000-02-29T00:00:00Z", datetime.fromisoformat("0001-01-01T00:00:00+00:00").timestamp() - 307 * 86_400),
        ("9999-12-31T23:59:59Z", datetime.fromisoformat("9999-12-31T23:59:59+00:00").timestamp()),
        ("9999-12-31T23:59:60-23:59", datetime.fromisoformat("9999-12-31T23:59:59+00:00").timestamp() + 86_341),
    ],
)
def test_every_time_of_rfc_3339_is_one(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00", "2026-01-31T12:00Z", "2026-01-31T12Z", "2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:61Z", "2026-02-30T12:00:00Z", "2025-02-29T12:00:00Z", "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z", "2026-01-31T12:00:00+0100", "2026-01-31T12:00:00+01", "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00Z ", "2026-01-31T12:00:00 Z",
        "2026-01-31T12:00:00+01:00:00", "2026-01-31T12:00:00\u0661Z", "2026-01-31T",
    ],
)  # fmt: skip
def test_what_is_no_time_of_rfc_3339_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(OptionInvalid, match="2026-01-31T12:00:00Z"):
        parse_start(text)
