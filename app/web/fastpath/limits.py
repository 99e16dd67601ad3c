"""How much of a request's head is taken, and how long a request may take to come in.

A client that says little and slowly (a slowloris) holds a connection; one that says much without an end fills memory,
since the parser keeps an unfinished header whole. Both are found out here. Nothing in this file waits, reads a clock or
touches a socket.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from ...errors import HeadTooLarge, TargetTooLong

MOST_HEADERS: Final = 100  # browsers send about twenty, proxies add some; each costs more than its bytes
MOST_AHEAD: Final = (
    100  # requests that wait for the answer before theirs: browsers send none, and each takes a kilobyte
)
LONGEST_TARGET: Final = 8 << 10  # bytes: the longest topic, escaped, with every option, is half of that
SLOWEST: Final = 1 << 10  # bytes a second: a body that comes slower may take body_timeout and no longer

_REQUEST_LINE: Final = len("  HTTP/1.1\r\n")  # beside its method and its target
_COLON: Final = len(": \r\n")


class RequestLimits(msgspec.Struct, frozen=True):
    """Bytes of a head, seconds for a head and for a body, and connections at once."""

    max_head: int = 16 << 10
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    max_clients: int = 20_000

    def check_size(self, nbytes: int) -> None:
        """Raises HeadTooLarge."""
        if nbytes > self.max_head:
            raise HeadTooLarge(f"the request's head has more than the {self.max_head} bytes that are accepted")


def check_parts(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises TargetTooLong, HeadTooLarge."""
    if len(target) > LONGEST_TARGET:
        raise TargetTooLong(f"the request's target has more than the {LONGEST_TARGET} bytes that are accepted")
    if len(headers) > MOST_HEADERS:
        raise HeadTooLarge(f"the request has more than the {MOST_HEADERS} headers that are accepted")


def head_size(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> int:
    """Bytes of a head as it is commonly written, its empty line included."""
    fields = sum(len(name) + len(value) + _COLON for name, value in headers)
    return len(method) + len(target) + _REQUEST_LINE + fields + len("\r\n")


class Stage(Enum):
    """What a connection waits for."""

    REQUEST = auto()  # its first byte
    HEAD = auto()  # the rest of it
    BODY = auto()


class Watch:
    """How long a connection has waited for the same. It is looked at about once a second, not told what happens: so a
    request costs no clock, and may take as much longer."""

    __slots__ = ("_octets", "_since", "_what")

    def __init__(self) -> None:
        self._what: tuple[Stage | None, int] = (None, 0)
        self._since = 0.0
        self._octets = 0

    def is_late(self, stage: Stage | None, request: int, nbytes: int, now: float, intake: RequestLimits) -> bool:
        """`stage`: None when nothing is awaited; `request`: which of the connection's; `nbytes`: of bodies so far."""
        waited = now - self._since
        if (stage, request) != self._what:
            self._begin(stage, request, nbytes, now)
        elif stage is Stage.BODY and waited >= intake.body_timeout:
            if nbytes - self._octets < SLOWEST * waited:
                return True
            self._begin(stage, request, nbytes, now)
        return stage in {Stage.REQUEST, Stage.HEAD} and now - self._since >= intake.head_timeout

    def _begin(self, stage: Stage | None, request: int, nbytes: int, now: float) -> None:
        self._what, self._since, self._octets = (stage, request), now, nbytes
