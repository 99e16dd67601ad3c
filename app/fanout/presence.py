"""Presences: who a subscriber or a consumer is, for people."""

from collections.abc import Iterator
from itertools import count
from time import time
from typing import Final

import msgspec

TICKS: Final = 10_000  # a second: JavaScript can read the numbers until the year 2080
MAX_PROCESSES: Final = 256  # of one server
_numbers: Iterator[int] = count(1)


class Presence(msgspec.Struct, frozen=True, gc=False):
    """`number`: in the order of arrival, unique in this server. `who`: a token's name or an address. `since`: Unix
    seconds."""

    number: int
    who: str
    since: float


def arrive(who: str) -> Presence:
    return Presence(next(_numbers), who, time())


def share_numbers(place: int) -> None:
    """From now on, numbers differ from those of other processes of this server, at other places. They follow the time,
    so that all together are in the order of arrival."""
    global _numbers  # noqa: PLW0603  # of the process, as the count is
    _numbers = _timed_numbers(place)


def _timed_numbers(place: int) -> Iterator[int]:
    latest = 0
    while True:
        latest = max(latest + 1, int(time() * TICKS))
        yield latest * MAX_PROCESSES + place
