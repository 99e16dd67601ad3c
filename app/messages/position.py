"""Where a reader starts, where that is in the log, and what it is told when the place is gone."""

import re
from datetime import date
from enum import StrEnum
from typing import Final

import msgspec

from ..errors import OptionInvalid
from .message import Id, parse_id
from .units import parse_duration

_LAST = re.compile(r"last:([0-9]{1,9})")
_DURATION = re.compile(r"[0-9.]+(ms|[smhd])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
# RFC 3339, section 5.6, and a leap second; a blank before the zone was a plus, which in a URL would be written %2B
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(\.[0-9]+)?"
    r"(?:[Zz]|([+ -])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_YEARS, _DAYS = 400, 146_097  # in which the calendar repeats itself; Python's begins with the year 1, not with 0
_EPOCH: Final = date(1970, 1, 1).toordinal()


class Latest(msgspec.Struct, frozen=True):
    """Only what is published from now on."""


class Earliest(msgspec.Struct, frozen=True):
    """Everything that is retained."""


class After(msgspec.Struct, frozen=True):
    """What follows this id."""

    id: Id


class Since(msgspec.Struct, frozen=True):
    """What was accepted at or after this time, in Unix seconds."""

    time: float


class Ago(msgspec.Struct, frozen=True):
    """What was accepted in the last `seconds`."""

    seconds: float


class Last(msgspec.Struct, frozen=True):
    """The newest `count` retained messages."""

    count: int


class AfterIndex(msgspec.Struct, frozen=True):
    """What follows this index of the one topic that is asked for (the line port's `last_seen`)."""

    index: int


Start = Latest | Earliest | After | Since | Ago | Last | AfterIndex

LATEST = Latest()
EARLIEST = Earliest()


def parse_start(text: str) -> Start:
    """`latest`, `earliest`, `last:10`, `10m`, an RFC 3339 time or an id. Raises OptionInvalid."""
    if text == "latest":
        return LATEST
    if text == "earliest":
        return EARLIEST
    if match := _LAST.fullmatch(text):
        return Last(int(match[1]))
    if _DURATION.fullmatch(text):
        return Ago(parse_duration(text))
    if _DATE.match(text):
        return Since(_parse_time(text))
    try:
        return After(parse_id(text))
    except OptionInvalid:
        raise OptionInvalid(
            f"{text[:60]!a} is not a place to start: expected an id such as k3f9a2-42, latest, earliest, last:10, "
            f"a duration such as 10m or a time such as 2026-01-31T12:00:00Z"
        ) from None


def _parse_time(text: str) -> float:
    match = _TIME.fullmatch(text)
    try:
        return _unix_time(match) if match else _unlawful(text)
    except ValueError:  # February has no 30th
        return _unlawful(text)


def _unlawful(text: str) -> float:
    raise OptionInvalid(
        f"{text[:60]!a} is not an RFC 3339 time: expected one with seconds and a zone, such as 2026-01-31T12:00:00Z or "
        f"2026-01-31T13:00:00+01:00 (in a URL %2B01:00)"
    )


def _unix_time(match: re.Match[str]) -> float:
    """Unix seconds; a leap second is the one that follows it. Raises ValueError for a day that is none."""
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    days = date(year % _YEARS + _YEARS, month, day).toordinal() + (year // _YEARS - 1) * _DAYS - _EPOCH
    fraction, sign, *zone = match.groups()[6:]
    east = 0 if sign is None else (int(zone[0]) * 60 + int(zone[1])) * (-1 if sign == "-" else 1)  # minutes
    return days * 86_400 + hour * 3_600 + (minute - east) * 60 + second + float(fraction or 0)


class GapReason(StrEnum):
    TRIMMED = "trimmed"  # retention, or a deleted topic, took what came next
    EPOCH = "epoch"  # the id is from another life of the log
    AHEAD = "ahead"  # the id is one that was not given yet


class Gap(msgspec.Struct, frozen=True):
    """A loss, as it is told: what was asked for, why it is gone, how many messages are missing (None: not known),
    and the id of the first message that follows (None: nothing is retained)."""

    requested: str
    reason: GapReason
    missed: int | None
    resumes_at: str | None

    @property
    def sentence(self) -> str:
        many = "messages" if self.missed is None else f"{self.missed} messages"
        goes_on = f"it goes on at {self.resumes_at}" if self.resumes_at else "nothing older is retained"
        return f"{many} after {self.requested} are gone ({self.reason}); {goes_on}"


class Cursor(msgspec.Struct, frozen=True):
    """A place between two messages: after `seq`. Losses up to `told` have been said, or were not asked about."""

    seq: int
    told: int
    requested: str | None = None  # set until the reader was told that this place is gone
    reason: GapReason | None = None
