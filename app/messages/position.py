"""Positions: where a subscriber starts (Start), where it stands in the log (Cursor), and what it missed (Gap)."""

import re
from datetime import date
from enum import StrEnum
from typing import Final, NoReturn

import msgspec

from ..errors import OptionInvalid
from .message import Id, parse_id
from .units import parse_duration

_LAST = re.compile(r"last:([0-9]{1,9})")
_DURATION = re.compile(r"[0-9.]+(ms|[smhd])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
# RFC 3339, section 5.6, with leap seconds. A blank before the zone is an unescaped plus sign of a URL (%2B is right).
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(\.[0-9]+)?"
    r"(?:[Zz]|([+ -])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_YEARS, _DAYS = 400, 146_097  # the calendar's period; Python's calendar begins with year 1, RFC 3339 with year 0
_EPOCH: Final = date(1970, 1, 1).toordinal()


class Latest(msgspec.Struct, frozen=True, array_like=True, tag="latest"):
    """Only messages that are published from now on."""


class Earliest(msgspec.Struct, frozen=True, array_like=True, tag="earliest"):
    """Every retained message."""


class After(msgspec.Struct, frozen=True, array_like=True, tag="after"):
    """The messages after this id."""

    id: Id


class Since(msgspec.Struct, frozen=True, array_like=True, tag="since"):
    """The messages that were accepted at or after this time (Unix seconds)."""

    time: float


class Ago(msgspec.Struct, frozen=True, array_like=True, tag="ago"):
    """The messages that were accepted in the last `seconds`."""

    seconds: float


class Last(msgspec.Struct, frozen=True, array_like=True, tag="last"):
    """The newest `count` retained messages."""

    count: int


class AfterIndex(msgspec.Struct, frozen=True, array_like=True, tag="after_index"):
    """The messages after this index of a single topic (`last_seen` on the line port)."""

    index: int


Start = Latest | Earliest | After | Since | Ago | Last | AfterIndex

LATEST = Latest()
EARLIEST = Earliest()


def parse_start(text: str) -> Start:
    """Parse `latest`, `earliest`, `last:10`, `10m`, an RFC 3339 time or an id. Raises OptionInvalid."""
    if text == "latest":
        return LATEST
    if text == "earliest":
        return EARLIEST
    if match := _LAST.fullmatch(text):
        return Last(int(match[1]))
    if _DURATION.fullmatch(text):
        return Ago(parse_duration(text))
    if _DATE.match(text):
        return Since(parse_time(text))
    try:
        return After(parse_id(text))
    except OptionInvalid:
        raise OptionInvalid(
            f"{text[:60]!a} is not a place to start: expected an id such as k3f9a2-42, latest, earliest, last:10, "
            f"a duration such as 10m or a time such as 2026-01-31T12:00:00Z"
        ) from None


def parse_time(text: str) -> float:
    """An RFC 3339 time → Unix seconds. Raises OptionInvalid."""
    match = _TIME.fullmatch(text)
    try:
        return _unix_time(match) if match else _refuse_time(text)
    except ValueError:  # such as 30 February
        return _refuse_time(text)


def _refuse_time(text: str) -> NoReturn:
    raise OptionInvalid(
        f"{text[:60]!a} is not an RFC 3339 time: expected one with seconds and a zone, such as 2026-01-31T12:00:00Z or "
        f"2026-01-31T13:00:00+01:00 (in a URL %2B01:00)"
    )


def _unix_time(match: re.Match[str]) -> float:
    """Unix seconds; a leap second equals the second after it. Raises ValueError for a day that does not exist."""
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    days = date(year % _YEARS + _YEARS, month, day).toordinal() + (year // _YEARS - 1) * _DAYS - _EPOCH
    fraction, sign, *zone = match.groups()[6:]
    east = 0 if sign is None else (int(zone[0]) * 60 + int(zone[1])) * (-1 if sign == "-" else 1)  # minutes
    return days * 86_400 + hour * 3_600 + (minute - east) * 60 + second + float(fraction or 0)


class GapReason(StrEnum):
    TRIMMED = "trimmed"  # retention or the deletion of a topic removed the next messages
    EPOCH = "epoch"  # the id is from another life of the log
    AHEAD = "ahead"  # the id has not been assigned yet


class Gap(msgspec.Struct, frozen=True):
    """Messages that a subscriber missed: the position it asked for, why they are gone, how many they are (None:
    unknown), and the id of the first message after them (None: no message is retained)."""

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
    """A position between two messages: after `seq`. Missing messages up to `reported` have been reported as a gap, or
    need not be, since they precede the position that the subscriber asked for."""

    seq: int
    reported: int
    requested: str | None = None  # set until the gap at this position has been reported
    reason: GapReason | None = None
