"""Presences: who a subscriber or a consumer is, for people."""

from itertools import count
from time import time
from typing import Final

import msgspec

_NUMBERS: Final = count(1)


class Presence(msgspec.Struct, frozen=True, gc=False):
    """`number`: in the order of arrival, unique in this process. `who`: a token's name or an address. `since`: Unix
    seconds."""

    number: int
    who: str
    since: float


def arrive(who: str) -> Presence:
    return Presence(next(_NUMBERS), who, time())
